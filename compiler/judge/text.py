"""The windows of a text that a judge reads."""

from __future__ import annotations

from pathlib import Path

from hearth.runtime.evaluation import Window, windows
from hearth.runtime.evaluation.text import read_text
from hearth.runtime.model import Model


def text_windows(model: Model, path: Path, context: int, most: int | None = None) -> list[Window]:
    """The first `most` windows of `context` ids of a UTF-8 file.

    Raises InputError input.text and input.too_short, ResourceError resource.unreadable.
    """
    ids = model.tokenizer.encode(read_text(path), add_special_tokens=False)
    return windows(ids, context, most)
