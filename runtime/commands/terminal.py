"""What commands print: text as it comes, JSON objects, numbers a person can read."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from hearth.schemas.errors import ResourceError


def emit(text: str) -> None:
    """Write to stdout at once; characters its encoding lacks become question marks."""
    encoding = sys.stdout.encoding or "utf-8"
    try:
        sys.stdout.write(text.encode(encoding, "replace").decode(encoding))
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise unwritable_output(error) from None


def unwritable_output(error: OSError) -> ResourceError:
    """Standard output is a full disk, or gone."""
    return ResourceError(
        "resource.output",
        f"standard output cannot be written: {error.strerror}",
        remedy="look at the disk or the program behind it",
    )


def emit_json(value: Any) -> None:
    """One object on one line."""
    emit(json.dumps(value, ensure_ascii=False) + "\n")


def size(nbytes: float) -> str:
    """1536 -> '1.5 KB' (powers of 1000, as file managers count)."""
    value, unit = float(nbytes), "B"
    for larger in ("KB", "MB", "GB", "TB"):
        if value < 1000:
            break
        value, unit = value / 1000, larger
    return f"{value:.0f} B" if unit == "B" else f"{value:.1f} {unit}"


def duration(seconds: float) -> str:
    """0.0123 -> '12.3 ms'."""
    return f"{seconds * 1e3:.1f} ms" if seconds < 1 else f"{seconds:.2f} s"


def rate(per_second: float | None) -> str:
    """Tokens per second, or a dash where nothing was measured."""
    return "-" if per_second is None else f"{per_second:.1f} tokens/s"


def table(rows: Iterable[Sequence[str]]) -> str:
    """Columns aligned: the first to the left, numbers to the right."""
    lines = [list(row) for row in rows]
    if not lines:
        return ""
    widths = [max(len(row[column]) for row in lines) for column in range(len(lines[0]))]
    return "\n".join("  ".join(_cells(row, widths)).rstrip() for row in lines)


def _cells(row: Sequence[str], widths: Sequence[int]) -> list[str]:
    return [
        cell.rjust(width) if cell[:1].isdigit() else cell.ljust(width)
        for cell, width in zip(row, widths, strict=True)
    ]
