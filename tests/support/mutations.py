"""Hypothesis strategies over plain msgpack data: anything at all, and a valid value with one thing changed."""

from __future__ import annotations

import copy
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

Path = tuple[Any, ...]
# Time limits and complaints about slow drawing say how busy the machine is, not whether the code is right.
calm = settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
EDGES = (-(2**63), -2, -1, 0, 1, 2, 3, 4, 5, 31, 2**31, 2**32, 2**63 - 1, 2**63, 2**64 - 1)
SCALARS = (
    st.none() | st.booleans() | st.sampled_from(EDGES) | st.integers(-(2**63), 2**64 - 1)
    | st.floats() | st.text(max_size=8) | st.sampled_from(["T", "R", "linear", "int4", "rtn"])
)  # fmt: skip


def junk(binary: bool = True) -> st.SearchStrategy[Any]:
    """Any plain data."""
    leaves = SCALARS | st.binary(max_size=8) if binary else SCALARS
    return st.recursive(
        leaves,
        lambda inner: (
            st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4)
        ),
        max_leaves=8,
    )


@st.composite
def mutated(draw: st.DrawFn, value: Any, binary: bool = True) -> Any:
    """`value` with one node replaced, dropped, doubled or renamed."""
    changed = copy.deepcopy(value)
    path = draw(st.sampled_from([path for path in _paths(changed) if path]))
    parent = changed
    for step in path[:-1]:
        parent = parent[step]
    last = path[-1]
    match draw(st.sampled_from(["replace", "replace", "drop", "double", "number"])):
        case "replace":
            parent[last] = draw(junk(binary))
        case "number":
            parent[last] = draw(st.sampled_from(EDGES))
        case "drop":
            del parent[last]
        case "double" if isinstance(parent, list):
            parent.insert(last, copy.deepcopy(parent[last]))
        case _:
            parent[draw(st.text(max_size=4))] = parent[last]
    return changed


def _paths(value: Any, at: Path = ()) -> list[Path]:
    inner: list[tuple[Any, Any]] = []
    if isinstance(value, dict):
        inner = list(value.items())
    if isinstance(value, list):
        inner = list(enumerate(value))
    return [at, *(path for step, item in inner for path in _paths(item, (*at, step)))]
