"""One random change somewhere in plain data: a leaf replaced, an item dropped, doubled, swapped or moved."""

from __future__ import annotations

import copy
import random
from typing import Any

EDGES = (-(2**63), -2, -1, 0, 1, 2, 3, 4, 5, 31, 64, 127, 4096, 2**31, 2**32, 2**63 - 1)
LEAVES = (
    None,
    True,
    "",
    "T",
    "R",
    "linear",
    "a" * 300,
    b"\x00" * 32,
    1.5,
    float("nan"),
    float("inf"),
    [],
    {},
)


def mutate_value(value: Any, rng: random.Random) -> Any:
    """A changed copy of `value`."""
    changed = copy.deepcopy(value)
    places: list[tuple[Any, Any]] = []
    _collect(changed, places)
    if not places:
        return _leaf(changed, rng)
    parent, key = rng.choice(places)
    _change(parent, key, rng)
    return changed


def _collect(value: Any, places: list[tuple[Any, Any]]) -> None:
    items: list[tuple[Any, Any]] = []
    if isinstance(value, dict):
        items = list(value.items())
    elif isinstance(value, list):
        items = list(enumerate(value))
    for key, item in items:
        places.append((value, key))
        _collect(item, places)


def _change(parent: Any, key: Any, rng: random.Random) -> None:
    match rng.randrange(6):
        case 0:
            del parent[key]
        case 1 if isinstance(parent, list):
            parent.insert(key, copy.deepcopy(parent[key]))
        case 2 if isinstance(parent, list):
            other = rng.randrange(len(parent))
            parent[key], parent[other] = parent[other], parent[key]
        case _:
            parent[key] = _leaf(parent[key], rng)


def _leaf(value: Any, rng: random.Random) -> Any:
    if isinstance(value, int) and not isinstance(value, bool) and rng.random() < 0.8:
        near = (
            value + 1,
            value - 1,
            value * 2,
            value // 2,
            -value,
            value ^ (1 << rng.randrange(40)),
        )
        return rng.choice((*near, *EDGES))
    return rng.choice((*EDGES, *LEAVES))
