"""What a comparison finds, as plain values: for people, for programs and for limits alike."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class State(StrEnum):
    """How a section, or a tensor, of A stands to that of B."""

    EQUAL = "equal"
    SAME = "same"  # other bytes that mean the same
    CHANGED = "changed"
    ADDED = "added"  # only B has it
    REMOVED = "removed"  # only A has it


@dataclass(frozen=True)
class Change:
    """One place with its value in A and in B; None where one of them lacks it."""

    path: str
    before: Any
    after: Any


@dataclass(frozen=True)
class PartChange:
    """One kind of number in a tensor (codes, multipliers, scales, zero points, values).

    `changed` of `total` differ; `largest` is the largest difference, `relative` the largest over the larger of the two
    numbers.
    """

    name: str
    changed: int
    total: int
    largest: float
    relative: float


@dataclass(frozen=True)
class ValueChange:
    """What the numbers stand for: the largest difference, its root mean square, and that over A's."""

    largest: float
    rms: float
    relative_rms: float


@dataclass(frozen=True)
class TensorDiff:
    """One tensor by its name. `form`: what the index says otherwise (layout, shape, group, pairing).

    `values` None: the shapes differ, so nothing can be compared.
    """

    name: str
    state: State
    form: tuple[Change, ...] = ()
    parts: tuple[PartChange, ...] = ()
    values: ValueChange | None = None

    @property
    def weight(self) -> float:
        """What to show first: other forms, then the largest relative change."""
        if self.state is not State.CHANGED or self.form:
            return float("inf")
        return 0.0 if self.values is None else self.values.relative_rms


@dataclass(frozen=True)
class SectionDiff:
    """One section; `note` says in a line what no list shows."""

    name: str
    kind: str
    state: State
    nbytes: tuple[int | None, int | None]
    sha256: tuple[str | None, str | None]
    note: str = ""
    changes: tuple[Change, ...] = ()
    lines: tuple[str, ...] = ()  # of a unified diff
    tensors: tuple[TensorDiff, ...] = ()


@dataclass(frozen=True)
class Side:
    """One of the two archives."""

    file: str
    version: int
    content_hash: str
    nbytes: int


@dataclass(frozen=True)
class ArchiveDiff:
    """All sections: A's in their order, then those that only B has."""

    a: Side
    b: Side
    sections: tuple[SectionDiff, ...] = field(default=())

    @property
    def equal(self) -> bool:
        """Whether every section has the same bytes."""
        return all(section.state is State.EQUAL for section in self.sections)
