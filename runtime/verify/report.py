"""The result of a verification: one line per step, and the error of each that failed."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from hearth.schemas.errors import HearthError


class Outcome(StrEnum):
    """How a step ended."""

    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = (
        "skipped"  # there is nothing to check, or something is missing here: `detail` says what
    )
    BLOCKED = "not run"  # an earlier step failed that this one builds on


@dataclass(frozen=True)
class StepResult:
    """One step; `error` where it failed, `seconds` it took."""

    name: str
    outcome: Outcome
    detail: str
    seconds: float = 0.0
    error: HearthError | None = None


@dataclass(frozen=True)
class Report:
    """All steps in order."""

    file: str
    content_hash: str  # empty where the file is no container
    steps: tuple[StepResult, ...]

    @property
    def failures(self) -> tuple[HearthError, ...]:
        """The errors found, in order of the steps."""
        return tuple(step.error for step in self.steps if step.error is not None)

    @property
    def passed(self) -> bool:
        return not self.failures


def as_object(report: Report) -> dict[str, Any]:
    """The report as plain data."""
    return {
        "file": report.file,
        "passed": report.passed,
        "content_hash": report.content_hash,
        "steps": [_step(step) for step in report.steps],
    }


def _step(step: StepResult) -> dict[str, Any]:
    found: dict[str, Any] = {
        "name": step.name,
        "outcome": str(step.outcome),
        "detail": step.detail,
        "seconds": round(step.seconds, 3),
    }
    if step.error is not None:
        found["code"] = step.error.code
    return found
