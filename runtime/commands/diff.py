"""`hearth diff`: what differs between two archives, and whether it stays within stated limits."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hearth.runtime.commands.arguments import checked
from hearth.runtime.commands.terminal import emit, emit_json
from hearth.schemas.errors import LimitError, UsageError

if TYPE_CHECKING:
    from hearth.runtime.diff.findings import ArchiveDiff
    from hearth.runtime.diff.limits import Limits


def diff_command(
    a: Annotated[Path, typer.Argument(help="a .har file", metavar="A")],
    b: Annotated[Path, typer.Argument(help="another", metavar="B")],
    max_codes: Annotated[
        float | None, typer.Option(help="share of a tensor's codes that may differ, 0 to 1")
    ] = None,
    max_scale: Annotated[
        float | None, typer.Option(help="relative change that a scale may have")
    ] = None,
    max_rms: Annotated[
        float | None, typer.Option(help="relative RMS that a tensor may differ by")
    ] = None,
    ignore: Annotated[
        list[str] | None,
        typer.Option(help="a section, or SECTION.FIELD, that may differ", metavar="SECTION"),
    ] = None,
    check: Annotated[
        str, typer.Option(help="structure, or full: verify the weights' hashes, too")
    ] = "structure",
    whole: Annotated[bool, typer.Option("--all", help="show every difference")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON object")] = False,
) -> None:
    """Say what differs between two archives; exit code 8 where it matters."""
    from hearth.runtime.diff.archives import diff
    from hearth.runtime.diff.limits import Limits, beyond
    from hearth.runtime.diff.text import as_text
    from hearth.runtime.progress import choose

    bounds = {"--max-codes": max_codes, "--max-scale": max_scale, "--max-rms": max_rms}
    for name, value in bounds.items():
        _require(name, value)
    limits = Limits(max_codes, max_scale, max_rms, tuple(ignore or ()))
    found = diff(a, b, checked(check), choose(json_lines=as_json))
    _require_known(found, limits)
    left = beyond(found, limits)
    if as_json:
        emit_json(as_object(found, left))
    else:
        emit(as_text(found, left, whole))
    if left:
        raise typer.Exit(LimitError.exit_code)


def _require(name: str, value: float | None) -> None:
    if value is not None and not 0 <= value <= 1e9:
        raise UsageError("arguments.limit", f"{name} {value}", expected="a number from 0 on")


def _require_known(found: ArchiveDiff, limits: Limits) -> None:
    """A name that is spelt wrong would ignore nothing, and nobody would see it."""
    known = [section.name for section in found.sections]
    for name in limits.ignored:
        if not any(name == each or name.startswith(f"{each}.") for each in known):
            raise UsageError(
                "arguments.section",
                f"--ignore {name}: neither archive has such a section",
                expected=f"one of {', '.join(known)}, or a field of one",
            )


def as_object(found: ArchiveDiff, left: tuple[str, ...]) -> dict[str, Any]:
    """The comparison as plain data."""
    return {"equal": found.equal, "within_limits": not left, "beyond": list(left), **asdict(found)}
