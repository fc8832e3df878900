"""What came of one recipe, and of all."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from hearth.compiler.check.accuracy import Accuracy
from hearth.runtime.diff.findings import ArchiveDiff, Change


class Status(StrEnum):
    """The worst that was found of a recipe."""

    PASSED = "passed"
    UPDATED = "updated"  # its golden was written anew
    CHANGED = "changed"  # its archive is not what the golden says
    NEW = "new"  # it has no golden
    STALE = "stale"  # a golden without a recipe
    GATE = "gate"  # further from its source than its gate allows
    BROKEN = "broken"  # it gives no archive, or its golden cannot be read


FAILED = frozenset({Status.CHANGED, Status.NEW, Status.STALE, Status.GATE, Status.BROKEN})
ERRORS = frozenset({Status.BROKEN})


@dataclass(frozen=True)
class Outcome:
    """One recipe. `changes` from golden to archive; `problem` in words; `traceback` of what is a bug.

    `diff` compares with the archive that was kept when the golden was still met.
    """

    name: str
    status: Status
    seconds: float = 0.0
    problem: str = ""
    changes: tuple[Change, ...] = ()
    nbytes: int | None = None
    accuracy: Accuracy | None = None
    diff: ArchiveDiff | None = None
    traceback: str = ""

    @property
    def failed(self) -> bool:
        return self.status in FAILED


@dataclass(frozen=True)
class Report:
    """All recipes in order."""

    folder: str
    outcomes: tuple[Outcome, ...]

    @property
    def failed(self) -> tuple[Outcome, ...]:
        return tuple(outcome for outcome in self.outcomes if outcome.failed)

    def counts(self) -> dict[Status, int]:
        """How many there are of each kind, none where there are none."""
        found = [outcome.status for outcome in self.outcomes]
        return {status: found.count(status) for status in Status if status in found}


def accuracy_object(accuracy: Accuracy | None) -> dict[str, Any] | None:
    """The figures that gates bound."""
    if accuracy is None:
        return None
    total = accuracy.total
    return {"max_error": total.relative, "kld": total.kld_mean, "top1": total.top1}
