"""The text that a model is measured on, and what is wrong with a file that holds none."""

from __future__ import annotations

from pathlib import Path

from hearth.schemas.errors import InputError, ResourceError, reason


def read_text(path: Path) -> str:
    """All of a UTF-8 file; InputError input.text for other bytes, ResourceError resource.unreadable."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise unreadable(path, error) from None


def unreadable(path: Path, error: Exception) -> InputError | ResourceError:
    """What reading a text met, as the user should hear of it."""
    if isinstance(error, UnicodeDecodeError):
        return InputError("input.text", reason(error), expected="UTF-8", where=str(path))
    return ResourceError(
        "resource.unreadable",
        reason(error),
        where=str(path),
        remedy="look at its name and its permissions",
    )
