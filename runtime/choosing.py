"""A chooser over the functions of sampling.py, with the face of the one that the sampling package will have."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from hearth.runtime.sampling import Sampling, choose, processors, sampler


class Constraint(Protocol):
    """What may come next in one text."""

    def allowed(self) -> NDArray[np.uint32] | None: ...
    def accept(self, token: int) -> None: ...
    @property
    def done(self) -> bool: ...
    def copy(self) -> Constraint: ...


@dataclass(frozen=True)
class Choice:
    """A token; its log probability and those of the best, where asked for."""

    token: int
    logprob: float | None
    top: tuple[tuple[int, float], ...]


class Chooser:
    """The choosing state of one sequence."""

    def __init__(
        self,
        sampling: Sampling,
        tokens: Sequence[int] = (),
        *,
        constraint: Constraint | None = None,
        logprobs: int | None = None,
    ) -> None:
        assert constraint is None and logprobs is None
        self._chain, self._sample = processors(sampling), sampler(sampling)
        self._tokens = list(tokens)

    def choose(self, logits: NDArray[np.float32]) -> Choice:
        """The next token."""
        token = choose(self._tokens, logits, self._chain, self._sample)
        self._tokens.append(token)
        return Choice(token, None, ())
