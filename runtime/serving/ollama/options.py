"""The object `options` of a request: what decides a text here. Others are ignored, as Ollama ignores them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from hearth.runtime.serving.ollama.fields import Fields, refused

T = TypeVar("T")

REPEAT_LAST_N = 64  # Ollama's default of the window of penalties


@dataclass(frozen=True)
class Options:
    """Options by Ollama's names; None is left to the archive, in whose terms `wishes.py` says them."""

    num_ctx: int | None = None
    num_keep: int | None = None
    num_predict: int | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    typical_p: float | None = None
    repeat_penalty: float | None = None
    repeat_last_n: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None


def read_options(fields: Fields) -> Options:
    """Refuses a value of the wrong type by its name; what a value may be is for the sampler to say."""
    options = Options(
        num_ctx=fields.integer("num_ctx"),
        num_keep=fields.integer("num_keep"),
        num_predict=fields.integer("num_predict"),
        seed=fields.integer("seed"),
        stop=fields.texts("stop") or (),
        temperature=_real(fields, "temperature"),
        top_k=fields.integer("top_k"),
        top_p=_real(fields, "top_p"),
        min_p=_real(fields, "min_p"),
        typical_p=_real(fields, "typical_p"),
        repeat_penalty=_real(fields, "repeat_penalty"),
        repeat_last_n=fields.integer("repeat_last_n"),
        presence_penalty=_real(fields, "presence_penalty"),
        frequency_penalty=_real(fields, "frequency_penalty"),
    )
    if options.num_ctx is not None and options.num_ctx < 1:
        raise refused("options.num_ctx", f"is {options.num_ctx}", "at least 1")
    return options


def _real(fields: Fields, name: str) -> float | None:
    return _map(float, fields.number(name))


def _map(change: Callable[[float], T], value: float | None) -> T | None:
    return None if value is None else change(value)
