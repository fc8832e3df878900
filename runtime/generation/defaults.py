"""What the checkpoint's generation_config.json says where the caller says nothing."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict, TypeVar

from hearth.runtime.generation.writing import Full, Request
from hearth.runtime.sampling import Sampling
from hearth.schemas.errors import ArchiveError


@dataclass(frozen=True)
class Wishes:
    """What a caller asks for (the fields of `Request` and of `Sampling`); None is left to the archive.

    Without a word on sampling the archive's `do_sample` decides. A temperature above 0, or any of top_k, top_p, min_p,
    typical_p and seed without a temperature, asks for sampling; temperature 0 is greedy. Penalties, biases and bans
    change the logits of both.
    """

    max_tokens: int | None = None
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    typical_p: float | None = None
    repetition_penalty: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    penalty_window: int | None = None
    logit_bias: tuple[tuple[int, float], ...] = ()
    banned: tuple[int, ...] = ()
    seed: int | None = None
    stop: tuple[str, ...] = ()
    ignore_eos: bool = False
    logprobs: int | None = None
    full: Full = Full.STOP


class Asked(TypedDict, total=False):
    """Wishes as keyword arguments."""

    max_tokens: int | None
    temperature: float | None
    top_k: int | None
    top_p: float | None
    min_p: float | None
    typical_p: float | None
    repetition_penalty: float | None
    presence_penalty: float | None
    frequency_penalty: float | None
    penalty_window: int | None
    logit_bias: Mapping[int, float]
    banned: Sequence[int]
    seed: int | None
    stop: str | Sequence[str]
    ignore_eos: bool
    logprobs: int | None
    full: Full


def wishes(asked: Asked) -> Wishes:
    """Keyword arguments as wishes; TypeError for a name that is none."""
    fields: dict[str, Any] = dict(asked)
    stop = fields.pop("stop", ())
    return Wishes(
        stop=(stop,) if isinstance(stop, str) else tuple(stop),
        logit_bias=tuple(dict(fields.pop("logit_bias", ())).items()),
        banned=tuple(fields.pop("banned", ())),
        **fields,
    )


@dataclass(frozen=True)
class Defaults:
    """The archive's own: `stop_ids` end a text, the rest is None where the file does not say."""

    stop_ids: frozenset[int] = frozenset()
    do_sample: bool = False
    max_tokens: int | None = None
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    typical_p: float | None = None
    repetition_penalty: float | None = None

    def request(self, wishes: Wishes, fresh_seed: int) -> Request:
        """The caller's wishes over these defaults; `fresh_seed` where a draw is wanted without a seed."""
        return Request(
            max_tokens=self.max_tokens if wishes.max_tokens is None else wishes.max_tokens,
            stop_ids=frozenset() if wishes.ignore_eos else self.stop_ids,
            stop=wishes.stop,
            sampling=self._sampling(wishes, fresh_seed),
            logprobs=wishes.logprobs,
            full=wishes.full,
        )

    def _sampling(self, wishes: Wishes, fresh_seed: int) -> Sampling:
        narrowed = (wishes.top_k, wishes.top_p, wishes.min_p, wishes.typical_p, wishes.seed)
        asked = any(value is not None for value in narrowed)
        default = _or(self.temperature, 1.0) if self.do_sample or asked else 0.0
        return Sampling(
            temperature=_or(wishes.temperature, default),
            top_k=_or(wishes.top_k, _or(self.top_k, 0)),
            top_p=_or(wishes.top_p, _or(self.top_p, 1.0)),
            min_p=_or(wishes.min_p, _or(self.min_p, 0.0)),
            typical_p=_or(wishes.typical_p, _or(self.typical_p, 1.0)),
            repetition_penalty=_or(wishes.repetition_penalty, _or(self.repetition_penalty, 1.0)),
            presence_penalty=_or(wishes.presence_penalty, 0.0),
            frequency_penalty=_or(wishes.frequency_penalty, 0.0),
            penalty_window=_or(wishes.penalty_window, 0),
            logit_bias=wishes.logit_bias,
            banned=wishes.banned,
            seed=_or(wishes.seed, fresh_seed),
        )


def read_defaults(generation_config: bytes | None, eos: Sequence[int]) -> Defaults:
    """`eos` are the model's own, used where the file names none."""
    config = _parsed(generation_config)
    return Defaults(
        stop_ids=_stop_ids(config, eos),
        do_sample=config.get("do_sample") is True,
        max_tokens=_integer(config, "max_new_tokens"),
        temperature=_real(config, "temperature"),
        top_k=_integer(config, "top_k"),
        top_p=_real(config, "top_p"),
        min_p=_real(config, "min_p"),
        typical_p=_real(config, "typical_p"),
        repetition_penalty=_real(config, "repetition_penalty"),
    )


def _parsed(data: bytes | None) -> Mapping[str, Any]:
    try:
        config = json.loads(data) if data else {}
    except (ValueError, RecursionError) as error:
        raise _bad(f"is not JSON: {error}", "a JSON object") from None
    if not isinstance(config, dict):
        raise _bad(f"holds {config!r:.40}", "a JSON object")
    return config


def _integer(config: Mapping[str, Any], name: str) -> int | None:
    value = config.get(name)
    if value is None or type(value) is int:
        return value
    raise _bad(f"has {name} = {value!r:.40}", "an integer")


def _real(config: Mapping[str, Any], name: str) -> float | None:
    value = config.get(name)
    if value is None:
        return None
    if type(value) in (int, float) and abs(value) <= sys.float_info.max:
        return float(value)
    raise _bad(f"has {name} = {value!r:.40}", "a number")


def _stop_ids(config: Mapping[str, Any], eos: Sequence[int]) -> frozenset[int]:
    match config.get("eos_token_id"):
        case None:
            return frozenset(eos)
        case int(token) if type(token) is int:
            return frozenset((token,))
        case list(tokens) if all(type(token) is int for token in tokens):
            return frozenset(tokens)
        case other:
            raise _bad(f"has eos_token_id = {other!r:.40}", "an id or a list of ids")


def _bad(found: str, expected: str) -> ArchiveError:
    return ArchiveError(
        "archive.generation_config",
        f"the archived generation_config.json {found}",
        expected=expected,
        remedy="compile again with a corrected file",
    )


T = TypeVar("T")


def _or(value: T | None, default: T) -> T:
    return default if value is None else value
