"""A comparison in words: what is equal in one line, the largest differences first."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from hearth.runtime.commands.terminal import size
from hearth.runtime.diff.findings import (
    ArchiveDiff,
    Change,
    PartChange,
    SectionDiff,
    State,
    TensorDiff,
)

FEW, FEW_LINES = 8, 24
LONG = 60  # characters of a value
NUMBER = re.compile(
    r"\[\d+\]|(?<=\.)\d+(?=\.)"
)  # of a command, an item, a layer in a tensor's name


def as_text(found: ArchiveDiff, beyond: Sequence[str], whole: bool = False) -> str:
    """For people; `whole` shows every difference."""
    a, b = found.a, found.b
    head = f"A {a.file}: {size(a.nbytes)}, format {a.version}, content {a.content_hash[:16]}"
    head += f"\nB {b.file}: {size(b.nbytes)}, format {b.version}, content {b.content_hash[:16]}"
    equal = [section.name for section in found.sections if section.state is State.EQUAL]
    blocks = [
        "\n".join(section_lines(section, whole))
        for section in found.sections
        if section.state is not State.EQUAL
    ]
    same = [f"equal: {', '.join(equal)}"] if equal else []
    return "\n\n".join([head, *blocks, *same, verdict(found, beyond)]) + "\n"


def verdict(found: ArchiveDiff, beyond: Sequence[str]) -> str:
    """The last line."""
    if found.equal:
        return "the archives are equal"
    if not beyond:
        return "the differences are within the limits"
    more = f" and {len(beyond) - FEW} more" if len(beyond) > FEW else ""
    return f"different: {', '.join(beyond[:FEW])}{more}"


def section_lines(section: SectionDiff, whole: bool) -> Iterator[str]:
    """A heading, then what differs."""
    yield f"{section.name}: {_heading(section)}"
    shown = len(section.changes) if whole else FEW
    yield from indented(change_lines(section.changes, whole), shown, "changes")
    yield from indented(section.lines, len(section.lines) if whole else FEW_LINES, "lines")
    tensors = sorted(section.tensors, key=lambda each: -each.weight)
    lines = [line for tensor in tensors for line in tensor_lines(tensor)]
    yield from indented(lines, len(lines) if whole else FEW, "tensors")


def _heading(section: SectionDiff) -> str:
    before, after = section.nbytes
    match section.state:
        case State.ADDED:
            return f"only in B ({size(after or 0)})"
        case State.REMOVED:
            return f"only in A ({size(before or 0)})"
    counts = [f"{len(section.changes)} changes"] if section.changes else []
    counts += [f"{len(section.tensors)} differ"] if section.tensors else []
    sizes = [] if before == after else [f"{before:,} bytes, then {after:,}"]
    notes = [section.note] if section.note else []
    if section.tensors:
        return ", ".join([" ".join([*counts, *notes]), *sizes])
    return ", ".join([*counts, *notes, *sizes]) or "differs"


def indented(lines: Iterable[str], shown: int, what: str, option: str = "--all") -> Iterator[str]:
    """At most `shown` of them, how many more there are, and the option that shows them."""
    found = list(lines)
    yield from (f"  {line}" for line in found[:shown])
    if len(found) > shown:
        yield f"  ... {len(found) - shown} more {what} ({option})"


def change_lines(changes: Sequence[Change], whole: bool) -> Iterator[str]:
    """One per change; without `whole` the items of a list that changed alike are one line."""
    if whole:
        yield from (f"{change.path}: {_arrow(change)}" for change in changes)
        return
    groups: dict[str, list[Change]] = {}
    for change in changes:
        groups.setdefault(NUMBER.sub(_star, change.path), []).append(change)
    for pattern, group in groups.items():
        first = group[0]
        if len(group) == 1:
            yield f"{first.path}: {_arrow(first)}"
        elif all((each.before, each.after) == (first.before, first.after) for each in group):
            yield f"{pattern}: {_arrow(first)} ({len(group)} times)"
        else:
            yield f"{pattern}: {len(group)} changes, first {first.path}: {_arrow(first)}"


def _star(match: re.Match[str]) -> str:
    return "[*]" if match[0].startswith("[") else "*"


def _arrow(change: Change) -> str:
    if change.before is None and change.after is not None:
        return f"only in B: {_value(change.after)}"
    if change.after is None and change.before is not None:
        return f"only in A: {_value(change.before)}"
    return f"{_value(change.before)} -> {_value(change.after)}"


def _value(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    shown = text if text.isprintable() else json.dumps(text, ensure_ascii=True)
    return shown if len(shown) <= LONG else f"{shown[: LONG - 3]}..."


def tensor_lines(tensor: TensorDiff) -> Iterator[str]:
    """One line per tensor."""
    match tensor.state:
        case State.ADDED:
            yield f"{tensor.name}: only in B"
            return
        case State.REMOVED:
            yield f"{tensor.name}: only in A"
            return
    words = [f"{change.path} {_arrow(change)}" for change in tensor.form]
    words += [part_words(part) for part in tensor.parts]
    if tensor.values is not None:
        value = tensor.values
        words.append(f"RMS {value.relative_rms:.3g} of its own, largest {value.largest:.3g}")
    yield f"{tensor.name}: {'; '.join(words) or 'the bytes differ'}"


def part_words(part: PartChange) -> str:
    """Codes go in steps, scales in shares of themselves."""
    counts = f"{part.changed:,} of {part.total:,} {part.name}"
    if part.name in ("scales", "values"):
        return f"{counts} (at most {part.relative:.3g} of one)"
    return f"{counts} (largest step {part.largest:g})"
