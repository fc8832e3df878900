"""Bounds of a number, written beside its type hint: `Annotated[int, Bounds(1)]`."""

from __future__ import annotations

import math
from dataclasses import dataclass

LARGEST = 2**63 - 1


@dataclass(frozen=True)
class Bounds:
    """Inclusive. Integers without bounds go from 0 to LARGEST."""

    low: float
    high: float = math.inf


def is_integer(value: object) -> bool:
    """An integer of a size that every reader can hold; True and False are none."""
    return type(value) is int and -LARGEST <= value <= LARGEST


def is_number(value: object) -> bool:
    """An integer or a finite float."""
    return is_integer(value) or (type(value) is float and math.isfinite(value))
