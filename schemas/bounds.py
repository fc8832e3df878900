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
