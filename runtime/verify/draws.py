"""Inputs drawn from a seed, the same on every machine and for every version of numpy: SHAKE-128 as their source."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]


def draw(seed: int, name: str, dtype: str, shape: tuple[int, ...]) -> NDArray[Any] | None:
    """Values for the input `name`: floats in [-1, 1), whole numbers 0 or 1.

    None for a type that has no draws, and for more elements than a test needs: an archive may ask for any number.
    """
    make = DRAWS.get(np.dtype(dtype).kind if dtype in KNOWN else "")
    if make is None or prod(max(size, 1) for size in shape) > LARGEST:
        return None
    source = hashlib.shake_128(f"{seed} {name}".encode()).digest(2 * prod(shape))
    halves: Any = np.frombuffer(source, "<u2")
    return np.ascontiguousarray(make(halves).astype(dtype).reshape(shape))


def draw_ids(seed: int, name: str, count: int, vocab: int) -> list[int]:
    """Token ids below `vocab`; the bias of the remainder is of no matter here."""
    source = hashlib.shake_128(f"{seed} {name}".encode()).digest(4 * count)
    return [int(value) % vocab for value in np.frombuffer(source, "<u4")]


LARGEST = 1 << 24
KNOWN = frozenset(
    {
        *("bool", "float16", "float32", "float64"),
        *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)),
    }
)
DRAWS: Mapping[str, Callable[[NDArray[np.uint16]], NDArray[Any]]] = {
    "f": lambda halves: halves / 32768.0 - 1.0,
    "i": lambda halves: halves & 1,
    "u": lambda halves: halves & 1,
    "b": lambda halves: halves & 1,
}
