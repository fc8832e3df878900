"""The state of a chooser as plain values: what a saved context keeps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from hearth.runtime.sampling.settings import Sampling

USUAL = Sampling()  # whose fields say of which types they are


@dataclass(frozen=True)
class ChooserState:
    """Everything but the constraint, which is made anew and fed the answer's tokens."""

    sampling: Sampling
    tokens: tuple[int, ...]  # prompt and answer
    prompt: int  # how many of them are the prompt
    draws: int  # random numbers taken so far

    def plain(self) -> dict[str, Any]:
        """Of numbers, strings, lists and dicts alone: as msgpack and JSON take it."""
        return asdict(self)

    @staticmethod
    def from_plain(plain: Mapping[str, Any]) -> ChooserState:
        """The inverse. Raises KeyError, TypeError, ValueError, UsageError for what `plain` never made."""
        given = dict(plain["sampling"])
        given["logit_bias"] = tuple((int(token), float(b)) for token, b in given["logit_bias"])
        given["banned"] = tuple(int(token) for token in given["banned"])
        for name, value in given.items():
            kind = type(getattr(USUAL, name, None))
            if type(value) is not kind and not (kind is float and type(value) is int):
                raise TypeError(f"{name} is {value!r:.40}")
        state = ChooserState(
            sampling=Sampling(**given),
            tokens=tuple(int(token) for token in plain["tokens"]),
            prompt=int(plain["prompt"]),
            draws=int(plain["draws"]),
        )
        if not 0 <= state.prompt <= len(state.tokens) or state.draws < 0:
            raise ValueError(f"{state.prompt} of {len(state.tokens)} tokens, {state.draws} draws")
        return state
