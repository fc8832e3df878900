"""The windows of a text that a judge reads."""

from __future__ import annotations

from pathlib import Path

from hearth.runtime.evaluation import Window, windows
from hearth.runtime.model import Model
from hearth.schemas.errors import InputError, ResourceError


def text_windows(model: Model, path: Path, context: int, most: int | None = None) -> list[Window]:
    """The first `most` windows of `context` ids of a UTF-8 file.

    Raises InputError input.text and input.too_short, ResourceError resource.unreadable.
    """
    ids = model.tokenizer.encode(_read(path), add_special_tokens=False)
    return windows(ids, context, most)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        found = f"the text is not UTF-8 at byte {error.start}"
        raise InputError("input.text", found, expected="UTF-8", where=str(path)) from None
    except OSError as error:
        raise ResourceError(
            "resource.unreadable",
            f"cannot be read: {error.strerror}",
            where=str(path),
            remedy="look at its name and its permissions",
        ) from None
