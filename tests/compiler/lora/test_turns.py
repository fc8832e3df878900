"""Rotations as archives record them: the maps that they were, each once, and rows that no span may leave."""

from __future__ import annotations

import numpy as np
import pytest

from hearth.compiler.lora.turns import Opaque, RowMap, Turns, map_of, well_formed
from hearth.compiler.lora.vectors import Vectors
from hearth.compiler.transform.hadamard import factors
from hearth.compiler.transform.rotation import Centre, Chain, Map, rotation
from hearth.schemas.lora import LinearPart

MAPS: dict[str, Map] = {
    "one block": rotation(48, 48, 3),
    "blocks without signs": rotation(8, 40, None),
    "centred": Chain(Centre(60), rotation(factors(60).order, 60, 1)),
}


@pytest.mark.parametrize("kind", MAPS.values(), ids=MAPS)
def test_a_recorded_turn_is_the_map_again(kind: Map) -> None:
    turns = Turns(Vectors())
    assert turns.place(kind) == turns.place(kind) == 0
    again = map_of(turns.turns[0], turns.vectors.whole())
    assert well_formed(turns.turns[0], turns.vectors.whole())
    assert not well_formed(turns.turns[0], 2 * turns.vectors.whole())
    assert not well_formed(turns.turns[0], turns.vectors.whole()[:-1])
    rows = np.random.default_rng(0).standard_normal((5, kind.size)).astype(np.float32)
    assert np.array_equal(again.apply(rows), kind.apply(rows))
    assert not np.allclose(again.apply(rows), rows)


def test_what_is_no_rotation_is_not_followed() -> None:
    with pytest.raises(Opaque):
        Turns(Vectors()).place(Centre(8))


@pytest.mark.parametrize("start", [0, 8, 24])
def test_rows_of_a_part_are_turned_as_those_of_the_weight(start: int) -> None:
    kind = RowMap(8, 40, rotation(8, 8, 1))
    b = np.random.default_rng(1).standard_normal((48, 3)).astype(np.float32)
    whole = kind.apply(b, 0)
    assert np.array_equal(whole[:8], b[:8]) and np.array_equal(whole[40:], b[40:])
    expected = kind.map.apply(np.ascontiguousarray(b[16:24].T)).T
    assert np.array_equal(whole[16:24], expected)
    assert np.array_equal(kind.apply(b[start:], start), whole[start:])


@pytest.mark.parametrize(
    ("start", "stop", "cuts"),
    [(0, 48, False), (0, 24, False), (24, 48, False), (0, 20, True), (20, 48, True), (0, 8, False)],
)
def test_a_span_in_two_parts_is_known(start: int, stop: int, cuts: bool) -> None:
    assert RowMap(8, 40, rotation(8, 8, 1)).cuts(LinearPart("m", start, stop)) is cuts
