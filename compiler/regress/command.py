"""`hearth regress`: a folder of recipes is compiled and held against the goldens beside them."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hearth.compiler.compile_options import checked_threads
from hearth.runtime.commands.terminal import emit, emit_json
from hearth.schemas.errors import LimitError

if TYPE_CHECKING:
    from hearth.compiler.regress.outcome import Outcome, Report


def regress_command(
    folder: Annotated[
        Path, typer.Argument(help="holds NAME.toml and NAME.golden.json", metavar="DIR")
    ],
    only: Annotated[
        list[str] | None, typer.Option(help="a recipe's name, or a pattern (int4*)")
    ] = None,
    update: Annotated[
        bool, typer.Option("--update", help="write the goldens anew, and show what changed")
    ] = False,
    junit: Annotated[Path | None, typer.Option(help="write JUnit XML here")] = None,
    keep: Annotated[
        Path | None,
        typer.Option(help="folder for the archives, so that the next change can be explained"),
    ] = None,
    threads: Annotated[
        int | None, typer.Option(help="HEARTH_THREADS, else the cores there are")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON object")] = False,
) -> None:
    """Compile a folder of recipes and compare with their goldens; exit code 8 where one fails."""
    from hearth.compiler.regress.cases import find_cases
    from hearth.compiler.regress.junit import write_junit
    from hearth.compiler.regress.outcome import Report
    from hearth.compiler.regress.run import Wanted, make_folder, run_cases
    from hearth.compiler.regress.text import as_text
    from hearth.runtime.progress import choose

    cases = find_cases(folder, only or ())
    for needed in (keep, None if junit is None else junit.parent):
        make_folder(needed)
    wanted = Wanted(update, keep, checked_threads(threads))
    report = Report(str(folder), run_cases(cases, wanted, choose(json_lines=as_json)))
    if junit is not None:
        write_junit(junit, report)
    if as_json:
        emit_json(as_object(report))
    else:
        emit(as_text(report))
    if report.failed:
        raise typer.Exit(LimitError.exit_code)


def as_object(report: Report) -> dict[str, Any]:
    """The report as plain data."""
    return {
        "folder": report.folder,
        "passed": not report.failed,
        "counts": {str(status): count for status, count in report.counts().items()},
        "recipes": [_outcome(outcome) for outcome in report.outcomes],
    }


def _outcome(outcome: Outcome) -> dict[str, Any]:
    from hearth.compiler.regress.outcome import accuracy_object
    from hearth.compiler.regress.parts import by_part

    return {
        "name": outcome.name,
        "status": str(outcome.status),
        "seconds": round(outcome.seconds, 3),
        "problem": outcome.problem,
        "nbytes": outcome.nbytes,
        "accuracy": accuracy_object(outcome.accuracy),
        "parts": list(by_part(outcome.changes)),
        "changes": [asdict(change) for change in outcome.changes],
        "diff": None if outcome.diff is None else asdict(outcome.diff),
        "traceback": outcome.traceback,
    }
