"""Bits for every tensor: of the choices of each, those of least loss within a size, or of least size within a loss.

Losses of tensors add up (each is a small change of its own), so this is the multiple-choice knapsack problem. Its
whole front is made here, tensor after tensor: all sums of a point so far and a choice, of which those stay that no
other beats in both size and loss. Fronts above `MOST_POINTS` are thinned to one point for each of that many equal
steps of the size, so the result is the optimum for small tables, and within a 20,000th of the size per tensor for
others. No randomness.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

import numpy as np
from numpy.typing import NDArray

MOST_POINTS = 20_000


@dataclass(frozen=True)
class Choice:
    """One way to store a tensor: its packed bytes, and the loss that it causes."""

    scheme: str
    nbytes: int
    loss: float


@dataclass(frozen=True)
class Tensor:
    """A tensor and its choices, one at least."""

    name: str
    choices: tuple[Choice, ...]


@dataclass(frozen=True)
class Allocation:
    """A choice for each tensor, in their order."""

    tensors: tuple[Tensor, ...]
    chosen: tuple[Choice, ...]

    @property
    def nbytes(self) -> int:
        return sum(choice.nbytes for choice in self.chosen)

    @property
    def loss(self) -> float:
        return sum(choice.loss for choice in self.chosen)


@dataclass(frozen=True, eq=False)
class Stage:
    """The front after one more tensor: sizes ascending, losses descending; where each point came from."""

    nbytes: NDArray[np.int64]
    loss: NDArray[np.float64]
    before: NDArray[np.int32]
    choice: NDArray[np.int32]


class Front:
    """Every allocation worth having for a table of tensors."""

    def __init__(self, tensors: Sequence[Tensor]) -> None:
        self.tensors = tuple(tensors)
        self._choices = [_undominated(tensor) for tensor in self.tensors]
        self._stages: list[Stage] = []
        nbytes, loss = np.zeros(1, np.int64), np.zeros(1)
        for choices in self._choices:
            stage = _stage(nbytes, loss, choices)
            self._stages.append(stage)
            nbytes, loss = stage.nbytes, stage.loss
        self._nbytes, self._loss = nbytes, loss

    def smallest(self, most_loss: float, most_nbytes: float = inf) -> Allocation | None:
        """The least size whose loss is at most that; None where there is none, or only beyond `most_nbytes`."""
        place = int(np.searchsorted(-self._loss, -most_loss))
        fits = place < self._nbytes.size and self._nbytes[place] <= most_nbytes
        return self._at(place) if fits else None

    def best(self, most_nbytes: float = inf) -> Allocation | None:
        """The least loss within a size; None where every allocation is larger."""
        place = int(np.searchsorted(self._nbytes, most_nbytes, "right")) - 1
        return None if place < 0 else self._at(place)

    @property
    def least_nbytes(self) -> int:
        """Of all allocations."""
        return int(self._nbytes[0])

    def _at(self, place: int) -> Allocation:
        chosen: list[Choice] = []
        for stage, choices in zip(reversed(self._stages), reversed(self._choices), strict=True):
            chosen.append(choices[int(stage.choice[place])])
            place = int(stage.before[place])
        return Allocation(self.tensors, tuple(reversed(chosen)))


def _undominated(tensor: Tensor) -> list[Choice]:
    """By size; each of less loss than all smaller ones."""
    kept: list[Choice] = []
    for choice in sorted(tensor.choices, key=lambda each: (each.nbytes, each.loss, each.scheme)):
        if not kept or choice.loss < kept[-1].loss:
            kept.append(choice)
    return kept


def _stage(nbytes: NDArray[np.int64], loss: NDArray[np.float64], choices: list[Choice]) -> Stage:
    sizes = nbytes[:, None] + np.array([choice.nbytes for choice in choices], np.int64)
    losses = loss[:, None] + np.array([choice.loss for choice in choices])
    ranked = np.lexsort((losses.ravel(), sizes.ravel()))
    ordered = losses.ravel()[ranked]
    least = np.minimum.accumulate(ordered)
    better = np.ones(ranked.size, np.bool_)
    better[1:] = ordered[1:] < least[:-1]
    kept = ranked[better]
    if kept.size > MOST_POINTS:
        kept = kept[_thinned(sizes.ravel()[kept])]
    before, choice = np.divmod(kept, len(choices))
    return Stage(
        sizes.ravel()[kept],
        losses.ravel()[kept],
        before.astype(np.int32),
        choice.astype(np.int32),
    )


def _thinned(sizes: NDArray[np.int64]) -> NDArray[np.intp]:
    """Places of the first, and of the best (last) of each step."""
    step = (sizes[-1] - sizes[0]) / (MOST_POINTS - 1)
    steps = np.floor((sizes - sizes[0]) / step)
    last = np.flatnonzero(np.append(steps[1:] != steps[:-1], True))
    return np.union1d(np.zeros(1, np.intp), last)
