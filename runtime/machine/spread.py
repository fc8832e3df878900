"""Several measurements of one thing: median, least and most."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True)
class Spread:
    """What a machine that others use too gives: its middle, and how far it goes."""

    median: float
    min: float
    max: float

    def as_dict(self) -> dict[str, float]:
        """As JSON has it."""
        return {"median": self.median, "min": self.min, "max": self.max}


def spread_of(values: Iterable[float]) -> Spread:
    """At least one value."""
    found = list(values)
    return Spread(median(found), min(found), max(found))
