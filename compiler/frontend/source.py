"""What every frontend gives: a model in the IR, or a general graph that keeps ONNX parts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from hearth.compiler.frontend.assets import Assets
from hearth.compiler.ir.graph import Graph
from hearth.schemas.manifest import Dims, Embedding, ModelKind


@dataclass(frozen=True)
class SourceModel:
    """A model raised whole to the IR, a decoder or an encoder, from any kind of source.

    `fingerprint` (hex) tells sources apart. `files` are all files that were read, for the provenance record.
    `notes` are remarks for the person who compiles (what was dropped or assumed). `context` is S.
    """

    kind: ModelKind
    family: str
    dims: Dims
    context: int
    graph: Graph
    assets: Assets
    fingerprint: str
    files: tuple[Path, ...] = ()
    embedding: Embedding | None = None
    notes: tuple[str, ...] = ()
