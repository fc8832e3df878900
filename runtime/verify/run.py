"""Run the steps one after the other: what fails is kept, and what builds on it is not run."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from hearth.runtime.verify.report import Outcome, Report, StepResult
from hearth.runtime.verify.steps import STEPS, Step
from hearth.runtime.verify.subject import Skip, Subject
from hearth.schemas.errors import HearthError

Told = Callable[[StepResult], None]


def verify(subject: Subject, tell: Told | None = None) -> Report:
    """All steps; `tell` hears of each as it ends. Errors of the archive are in the report, not raised."""
    results: dict[str, StepResult] = {}
    for step in STEPS:
        results[step.name] = _result(step, subject, results)
        if tell is not None:
            tell(results[step.name])
    known = results["structure"].outcome is Outcome.PASSED
    steps = tuple(results.values())
    return Report(subject.path.name, subject.content_hash if known else "", steps)


def _result(step: Step, subject: Subject, before: Mapping[str, StepResult]) -> StepResult:
    failed = [name for name in step.needs if before[name].outcome in STOPS]
    if failed:
        return StepResult(step.name, Outcome.BLOCKED, f"after {failed[0]} failed")
    began = time.perf_counter()
    try:
        outcome, detail, error = Outcome.PASSED, step.run(subject), None
    except Skip as skip:
        outcome, detail, error = Outcome.SKIPPED, str(skip), None
    except HearthError as failure:
        outcome, detail, error = Outcome.FAILED, failure.found, failure
    return StepResult(step.name, outcome, detail, time.perf_counter() - began, error)


STOPS = (Outcome.FAILED, Outcome.BLOCKED)
