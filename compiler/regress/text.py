"""The report in words: what failed, and which part of it is not what it was."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from hearth.compiler.regress.outcome import Outcome, Report, Status
from hearth.compiler.regress.parts import by_part
from hearth.runtime.commands.terminal import duration
from hearth.runtime.diff.findings import Change, State
from hearth.runtime.diff.text import change_lines, indented, section_lines

FEW = 6


def as_text(report: Report) -> str:
    """All recipes that did not simply pass, and how many there are of each kind."""
    told = [each for each in report.outcomes if each.status is not Status.PASSED]
    seconds = sum(outcome.seconds for outcome in report.outcomes)
    counts = ", ".join(f"{count} {status}" for status, count in report.counts().items())
    last = f"{report.folder}: {counts} in {duration(seconds)}"
    return "\n\n".join([*map(outcome_text, told), last]) + "\n"


def outcome_text(outcome: Outcome) -> str:
    """One recipe."""
    return "\n".join(outcome_lines(outcome))


def outcome_lines(outcome: Outcome) -> Iterator[str]:
    parts = by_part(outcome.changes)
    said = [outcome.problem] if outcome.problem else []
    said += [f"other {', '.join(parts)}"] if parts else []
    yield f"{outcome.name}: {outcome.status}" + "".join(f": {text}" for text in said[:1])
    yield from (f"  {text}" for text in said[1:])
    yield from (f"  {line}" for line in part_lines(parts))
    if outcome.diff is not None:
        yield "  against the archive that was kept:"
        for section in outcome.diff.sections:
            if section.state is not State.EQUAL:
                yield from (f"    {line}" for line in section_lines(section, whole=False))


def part_lines(parts: Mapping[str, tuple[Change, ...]]) -> Iterator[str]:
    """Field by field; a section of which there is but a hash says nothing more."""
    for name, changes in parts.items():
        fields = [change for change in changes if change.path != f"sections.{name}"]
        lines = change_lines(fields, whole=False)
        yield from indented(lines, FEW, f"changes of {name}", "--json")
