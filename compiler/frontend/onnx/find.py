"""Which .onnx file of a folder is the model."""

from __future__ import annotations

import os
from pathlib import Path, PurePath

from hearth.compiler.frontend.json_files import parse_object, read_bytes
from hearth.schemas.errors import CheckpointError

GENAI = "genai_config.json"
USUAL = ("model.onnx", "decoder_model_merged.onnx", "decoder_model.onnx", "past.onnx")


def find_graph(path: Path) -> Path:
    """The file itself; of a folder the one that genai_config.json names, one of the usual names, or the only one."""
    if not os.path.isdir(path):  # unlike Path.is_dir, False whatever the system says
        return path
    named = _named(path)
    for name in (*([named] if named else []), *USUAL):
        if (path / name).exists():
            return path / name
    found = sorted(path.glob("*.onnx"))
    if len(found) == 1:
        return found[0]
    names = ", ".join(each.name for each in found[:5])
    raise CheckpointError(
        "onnx.which",
        f"{len(found)} .onnx files ({names})" if found else "no .onnx file",
        expected=f"one, or one called {' or '.join(USUAL)}",
        where=str(path),
        remedy="give the path of the .onnx file",
    )


def _named(directory: Path) -> str | None:
    """The decoder's file in genai_config.json: a plain name."""
    content = read_bytes(directory / GENAI)
    if content is None:
        return None
    match parse_object(content, directory / GENAI):
        case {"model": {"decoder": {"filename": str(name)}}} if PurePath(name).name == name:
            return name
    return None
