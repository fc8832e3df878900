"""Models in, graphs out: `load` gives a SourceModel of whatever a path holds."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from hearth.compiler.frontend import huggingface
from hearth.compiler.frontend.assets import Assets
from hearth.compiler.frontend.checkpoint import INDEX, SINGLE
from hearth.compiler.frontend.sentence import POOLINGS
from hearth.compiler.frontend.source import SourceModel
from hearth.schemas.commands import KVScheme
from hearth.schemas.recipe import PoolingName

if TYPE_CHECKING:
    from hearth.compiler.frontend.onnx.graph_source import GraphSource

__all__ = ["POOLINGS", "Assets", "PoolingName", "SourceModel", "is_onnx", "load"]


def load(
    path: Path, *, context: int | None, kv: KVScheme, pooling: PoolingName | None = None
) -> SourceModel | GraphSource:
    """A checkpoint directory, an .onnx file, or a directory that has an ONNX graph and no safetensors."""
    if is_onnx(path):
        from hearth.compiler.frontend import onnx

        return onnx.load(path, context=context, kv=kv, pooling=pooling)
    return huggingface.load(path, context=context, kv=kv, pooling=pooling)


def is_onnx(path: Path) -> bool:
    """Whether the ONNX frontend reads it."""
    if os.path.isdir(path):  # unlike Path.is_dir, False whatever the system says
        stored = any((path / name).exists() for name in (SINGLE, INDEX))
        return not stored and any(path.glob("*.onnx"))
    return path.suffix == ".onnx"
