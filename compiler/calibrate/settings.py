"""What a compile calibrates on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from hearth.schemas.recipe import RangeName


@dataclass(frozen=True)
class Calibration:
    """The first `windows` windows of `context` tokens each of a text; `ranges` says how static ranges are chosen."""

    text: Path
    windows: int = 32
    context: int = 512
    ranges: RangeName = "minmax"
