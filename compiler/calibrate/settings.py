"""What a compile calibrates on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import cast

from hearth.schemas.errors import UsageError
from hearth.schemas.provenance import CalibrationFacts
from hearth.schemas.recipe import RangeName


@dataclass(frozen=True)
class Calibration:
    """The first `windows` windows of `context` tokens each of a text; `ranges` says how static ranges are chosen."""

    text: Path
    windows: int = 32
    context: int = 512
    ranges: RangeName = "minmax"


def calibrated_on(facts: CalibrationFacts, text: Path | None, command: str) -> Calibration:
    """What an archive was calibrated on, to do so again; `command` is the one that takes the text.

    UsageError usage.calibration where no text is given: a record names it by its hash alone.
    """
    if text is None:
        raise UsageError(
            "usage.calibration",
            "the archive was calibrated on a text, and none is given to do so again",
            expected=f"the text of SHA-256 {facts.sha256}",
            remedy=f"give it: {command} --calibration TEXT",
        )
    return Calibration(text, facts.windows, facts.context, cast("RangeName", facts.ranges))
