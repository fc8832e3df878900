"""Plain data field by field: every difference has its path, nothing else has one."""

from __future__ import annotations

from typing import Any

import pytest

from hearth.runtime.diff.fields import field_changes, plain
from hearth.runtime.diff.findings import Change
from hearth.schemas.commands import KVScheme
from hearth.schemas.kv_layout import KVHalf, KVLayer, KVLayout, Span
from hearth.schemas.program import Rows

CASES: dict[str, tuple[Any, Any, list[Change]]] = {
    "equal": ({"a": [1, {"b": 2}]}, {"a": [1, {"b": 2}]}, []),
    "a value": ({"a": {"b": 1}}, {"a": {"b": 2}}, [Change("a.b", 1, 2)]),
    "types count": ({"a": 1}, {"a": 1.0}, [Change("a", 1, 1.0)]),
    "true is not one": ({"a": 1}, {"a": True}, [Change("a", 1, True)]),
    "a key more": ({}, {"a": 3}, [Change("a", None, 3)]),
    "a key less": ({"a": 3}, {}, [Change("a", 3, None)]),
    "null is a value": ({"a": None}, {}, [Change("a", "null", None)]),
    "records in a list": ([{"a": 1}, {"a": 2}], [{"a": 1}, {"a": 3}], [Change("[1].a", 2, 3)]),
    "a record more": ({"l": [{}]}, {"l": [{}, {"a": 1}]}, [Change("l[1]", None, {"a": 1})]),
    "numbers are shown whole": ({"l": [1, 2]}, {"l": [1, 3]}, [Change("l", [1, 2], [1, 3])]),
    "another kind": ({"a": {"b": 1}}, {"a": [1]}, [Change("a", {"b": 1}, [1])]),
}


@pytest.mark.parametrize("name", CASES)
def test_changes(name: str) -> None:
    a, b, expected = CASES[name]
    assert list(field_changes(a, b)) == expected


def test_typed_values_have_their_names() -> None:
    half = KVHalf(Span(0, 4))
    layout = KVLayout((KVLayer(half, half, 1, 2, 3, KVScheme.INT8),), 8)
    layer = plain(layout)["layers"][0]
    assert layer["scheme"] == "int8"
    assert layer["k"] == {"codes": {"offset": 0, "nbytes": 4}, "scales": None}
    assert plain({Rows.T: (1, 2)}) == {"T": [1, 2]}
