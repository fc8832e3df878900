"""Compile recipes one after the other and hold what comes of each against its golden."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from traceback import format_exc

from hearth.compiler.check.accuracy import Accuracy, require
from hearth.compiler.check.inputs import CheckOptions
from hearth.compiler.conduct import Conduct
from hearth.compiler.job import options
from hearth.compiler.lower.targets import NATIVE
from hearth.compiler.pipeline import compile_model
from hearth.compiler.regress.cases import Case
from hearth.compiler.regress.outcome import Outcome, Status
from hearth.compiler.regress.record import (
    Record,
    differences,
    read_record,
    record,
    write_record,
)
from hearth.runtime.archive import Archive, open_archive
from hearth.runtime.archive.files import unwritable
from hearth.runtime.diff.archives import compare_archives
from hearth.runtime.diff.findings import ArchiveDiff, Change
from hearth.runtime.progress import Progress, Silent, step
from hearth.schemas.errors import HearthError, LimitError, UsageError
from hearth.schemas.recipe import Recipe, read_recipe


@dataclass(frozen=True)
class Wanted:
    """`update` writes goldens anew; `keep` is a folder for archives, so that the next change can be explained.

    `threads` 0: all cores; they change no bit.
    """

    update: bool = False
    keep: Path | None = None
    threads: int = 0


def run_cases(
    cases: Sequence[Case], wanted: Wanted, progress: Progress | None = None
) -> tuple[Outcome, ...]:
    """All of them: what breaks one does not stop the others."""
    found = []
    with step(progress or Silent(), "regress", len(cases)) as advance:
        for case in cases:
            began = time.monotonic()
            outcome = run_case(case, wanted)
            found.append(replace(outcome, seconds=time.monotonic() - began))
            advance(1)
    return tuple(found)


def run_case(case: Case, wanted: Wanted) -> Outcome:
    """One of them. What is wrong with the recipe or its source is its outcome; so is a bug."""
    try:
        return _stale(case, wanted) if case.recipe is None else _run(case, case.recipe, wanted)
    except HearthError as error:
        return Outcome(case.name, Status.BROKEN, problem=str(error))
    except Exception as error:
        text = f"{type(error).__name__}: {error}"
        return Outcome(case.name, Status.BROKEN, problem=text, traceback=format_exc())


def _stale(case: Case, wanted: Wanted) -> Outcome:
    """A golden without a recipe."""
    if wanted.update:
        case.golden.unlink(missing_ok=True)
        return Outcome(case.name, Status.UPDATED, problem="its recipe is gone: golden removed")
    return Outcome(case.name, Status.STALE, problem=f"there is no recipe {case.name}.toml")


def _run(case: Case, path: Path, wanted: Wanted) -> Outcome:
    with tempfile.TemporaryDirectory(prefix="hearth-regress-", dir=wanted.keep) as folder:
        output = Path(folder) / f"{case.name}.har"
        recipe = _recipe(path, output)
        accuracy = _compile(recipe, wanted.threads)
        archive = open_archive(output)
        outcome = replace(_judged(case, archive, wanted), accuracy=accuracy)
        outcome = _gated(outcome, recipe)
        if wanted.keep is not None:
            outcome = _kept(outcome, archive, wanted.keep)
        return outcome


def _recipe(path: Path, output: Path) -> Recipe:
    recipe = read_recipe(path, {"output": str(output)})
    if recipe.target == NATIVE:
        raise UsageError(
            "regress.target",
            "the recipe names no target, so that its archive would differ between machines",
            expected='a line like target = "x86-64-v3"',
            where=str(path),
        )
    return recipe


def _compile(recipe: Recipe, threads: int) -> Accuracy | None:
    """The archive at the recipe's output; its accuracy where the recipe has a gate."""
    found: list[Accuracy] = []
    checked = CheckOptions() if recipe.gate.asks else None
    conduct = Conduct(threads, checked=checked, compared=found.append)
    compile_model(Path(recipe.source), Path(recipe.output), options(recipe), conduct)
    return found[0] if found else None


def _judged(case: Case, archive: Archive, wanted: Wanted) -> Outcome:
    """Against the golden, which --update replaces."""
    found = record(archive)
    base = Outcome(case.name, Status.PASSED, nbytes=found["nbytes"])
    if not case.golden.exists():
        if not wanted.update:
            text = "it has no golden; hearth regress --update writes one"
            return replace(base, status=Status.NEW, problem=text)
        write_record(case.golden, found)
        return replace(base, status=Status.UPDATED, problem="its first golden")
    changes = _changes(case, found, archive, wanted)
    if not changes:
        return base
    if wanted.update:
        write_record(case.golden, found)
    status = Status.UPDATED if wanted.update else Status.CHANGED
    return replace(base, status=status, changes=tuple(changes))


def _changes(case: Case, found: Record, archive: Archive, wanted: Wanted) -> list[Change]:
    try:
        return differences(read_record(case.golden), found, archive)
    except UsageError as error:
        if not wanted.update:
            raise
        return [Change("golden file", error.found, "readable")]


def _gated(outcome: Outcome, recipe: Recipe) -> Outcome:
    """A missed gate is said beside what else there is."""
    if outcome.accuracy is None:
        return outcome
    try:
        require(outcome.accuracy, recipe.gate)
    except LimitError as error:
        problem = f"{outcome.problem}; {error}" if outcome.problem else str(error)
        return replace(outcome, status=Status.GATE, problem=problem)
    return outcome


def _kept(outcome: Outcome, archive: Archive, keep: Path) -> Outcome:
    """The archive that met its golden stays; one that does not is compared with it and lies beside it."""
    place = keep / f"{outcome.name}.har"
    if not outcome.changes:
        os.replace(archive.path, place)
        return outcome
    diff = _diff(place, archive)
    updated = outcome.status is Status.UPDATED
    os.replace(archive.path, place if updated else keep / f"{outcome.name}.new.har")
    return replace(outcome, diff=diff)


def _diff(place: Path, archive: Archive) -> ArchiveDiff | None:
    if not place.exists():
        return None
    try:
        return compare_archives(open_archive(place), archive, Silent())
    except (
        HearthError
    ):  # a format that is no longer read, or a damaged file: nothing to explain with
        return None


def make_folder(path: Path | None) -> None:
    """What is written later must have a place: said before the work."""
    if path is None:
        return
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(path, error, 0) from None
