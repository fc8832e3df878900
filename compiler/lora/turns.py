"""Rotations of weights as an archive records them: by their own signs and matrices, not by how those were found."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from hearth.compiler.ir.tensors import F32
from hearth.compiler.lora.vectors import Vectors
from hearth.compiler.transform.hadamard import Signs
from hearth.compiler.transform.rotation import Centre, Chain, Map, Rotation
from hearth.schemas.lora import Factor, LinearPart, Turn, TurnedRows


class Opaque(Exception):
    """A constant that was not made of modules in a way that an adapter could follow."""


@dataclass
class Turns:
    """The turns of a model, each once, in the order in which they were met."""

    vectors: Vectors
    found: dict[Map, int] = field(default_factory=dict)
    turns: list[Turn] = field(default_factory=list)

    def place(self, kind: Map) -> int:
        """The number of a map; Opaque for one that is no rotation."""
        if kind not in self.found:
            self.turns.append(self._turn(kind))
            self.found[kind] = len(self.turns) - 1
        return self.found[kind]

    def _turn(self, kind: Map) -> Turn:
        match kind:
            case Rotation(size=size, signs=signs, factors=factors):
                matrices = tuple(Factor(len(each), self._values(each)) for each in factors)
                return Turn(size, False, self._values(signs), matrices)
            case Chain(first=Centre(), second=Rotation() as rotation):
                turn = self._turn(rotation)
                return Turn(turn.size, True, turn.signs, turn.factors)
        raise Opaque

    def _values(self, signs: Signs) -> int:
        return self.vectors.place(signs.astype(np.float32))


def well_formed(turn: Turn, vectors: F32) -> bool:
    """Whether its signs and matrices are there, are signs, and fit its rows."""
    places = [(turn.signs, turn.size), *((each.values, each.order**2) for each in turn.factors)]
    if any(at + count > len(vectors) for at, count in places):
        return False
    order = math.prod(each.order for each in turn.factors)
    found = (np.abs(vectors[at : at + count]) for at, count in places)
    return turn.size % order == 0 and all((each == 1).all() for each in found)


def map_of(turn: Turn, vectors: F32) -> Map:
    """The map that a turn was recorded from."""
    factors = tuple(
        _signs(vectors, each.values, each.order**2).reshape(each.order, each.order)
        for each in turn.factors
    )
    rotation = Rotation(turn.size, _signs(vectors, turn.signs, turn.size), factors)
    return Chain(Centre(turn.size), rotation) if turn.centred else rotation


def _signs(vectors: F32, offset: int, count: int) -> Signs:
    return vectors[offset : offset + count].astype(np.int8)


@dataclass(frozen=True, eq=False)
class RowMap:
    """Rows first .. last of a weight under a map, span by span of its size."""

    first: int
    last: int
    map: Map

    def recorded(self, turns: Turns) -> TurnedRows:
        return TurnedRows(self.first, self.last, turns.place(self.map))

    def cuts(self, part: LinearPart) -> bool:
        """Whether a span reaches beyond a part's rows."""
        low, high = max(self.first, part.start), min(self.last, part.stop)
        return low < high and bool(
            (low - self.first) % self.map.size or (high - low) % self.map.size
        )

    def apply(self, b: F32, start: int) -> F32:
        """B [n, r] of the weight's rows start .. start + n, which no span leaves."""
        low, high = max(self.first, start) - start, min(self.last, start + len(b)) - start
        if low >= high:
            return b
        ranks, size = b.shape[1], self.map.size
        spans = b[low:high].reshape(-1, size, ranks).transpose(0, 2, 1)
        found = self.map.apply(np.ascontiguousarray(spans).reshape(-1, size))
        turned = b.copy()
        turned[low:high] = found.reshape(-1, ranks, size).transpose(0, 2, 1).reshape(-1, ranks)
        return turned
