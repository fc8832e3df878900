"""Who wrote each byte last, and who reads which weight how: memory as the plan checker replays it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise

from hearth.schemas.commands import Kind
from hearth.schemas.program import Operand, Region, Rows


@dataclass(frozen=True)
class Definition:
    """How a value came to be; `origin` is the index of the command, -1 for the tokens."""

    place: Operand
    kind: Kind
    rows: int | Rows
    columns: int
    origin: int
    facts: tuple[float, ...] = ()  # of a cache: heads, head_dim, context, scheme, kind, codes


@dataclass
class Memory:
    """Byte ranges of each region with the value they hold; later writes cut earlier ranges."""

    held: dict[Region, list[tuple[int, int, int]]] = field(default_factory=dict)
    defined: dict[int, Definition] = field(default_factory=dict)

    def write(self, place: Operand, definition: Definition) -> None:
        """The bytes now hold this value and no other."""
        start, stop = place.offset, place.offset + place.nbytes
        kept: list[tuple[int, int, int]] = []
        for low, high, value in self.held.get(place.region, []):
            if low < min(high, start):
                kept.append((low, min(high, start), value))
            if max(low, stop) < high:
                kept.append((max(low, stop), high, value))
        self.held[place.region] = [*kept, (start, stop, place.value)]
        self.defined[place.value] = definition

    def holders(self, place: Operand) -> list[tuple[int, int, int]]:
        """The ranges that touch these bytes, in order."""
        start, stop = place.offset, place.offset + place.nbytes
        touching = (
            (max(low, start), min(high, stop), value)
            for low, high, value in self.held.get(place.region, [])
            if low < stop and start < high
        )
        return sorted(touching)

    def intact(self, place: Operand) -> bool:
        """Every one of these bytes was last written by the operand's own value."""
        at = place.offset
        for low, high, value in self.holders(place):
            if low != at or value != place.value:
                return False
            at = high
        return at == place.offset + place.nbytes


@dataclass
class WeightReads:
    """The byte ranges of the weights that were read, by whom first, and in which form."""

    ranges: dict[tuple[int, int], tuple[str, tuple[int | Kind, ...]]] = field(default_factory=dict)

    def read(self, place: Operand, form: tuple[int | Kind, ...], where: str) -> str:
        """What is wrong with reading these bytes in this form; empty: nothing."""
        at = place.offset, place.offset + place.nbytes
        first, known = self.ranges.setdefault(at, (where, form))
        return "" if known == form else f"is read in another form by {first}"

    def overlaps(self) -> Iterator[tuple[str, str]]:
        """Ranges that share bytes without being the same."""
        for before, after in pairwise(sorted(self.ranges)):
            if after[0] < before[1]:
                what = f"bytes {after} overlap {before} of {self.ranges[before][0]}"
                yield self.ranges[after][0], what


def overlap(a: Operand, b: Operand) -> bool:
    """The two share bytes."""
    return (
        a.region is b.region and a.offset < b.offset + b.nbytes and b.offset < a.offset + a.nbytes
    )
