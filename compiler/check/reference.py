"""What the source itself computes, run in onnxruntime: the other side of the comparison."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hearth.compiler.check.blocks import run_blocks
from hearth.compiler.check.onnx_source import open_onnx_source
from hearth.compiler.frontend import SourceModel, is_onnx
from hearth.compiler.frontend.onnx.graph_source import GraphSource
from hearth.compiler.frontend.onnx.sessions import open_source
from hearth.compiler.ir.graph import Graph
from hearth.compiler.ir.ops import Constant
from hearth.compiler.ir.rewrite import order
from hearth.runtime.progress import Progress, step

F32 = NDArray[np.float32]
Ids = Mapping[str, NDArray[np.int32]]
PROBE: Ids = {name: np.zeros(3, np.int32) for name in ("tokens", "types")}


@dataclass(frozen=True)
class Reference:
    """What to compare an entry of the archive with: for each call, fed by port, the entry's one result.

    "main" gives logits [T, V] or a vector [1, E], "hidden" rows [T, E].
    """

    entry: str
    run: Callable[[Sequence[Ids]], list[F32]]


def reference(path: Path, source: SourceModel, progress: Progress, threads: int) -> Reference:
    """An ONNX model runs as it is, anything else as the float graph the frontend made of it."""
    if is_onnx(path):
        return onnx_model(path, source, progress, threads)
    unpooled = source.embedding is not None and source.embedding.pooling == "none"
    return float_graph(source, "hidden" if unpooled else "main", progress, threads)


def float_graph(source: SourceModel, entry: str, progress: Progress, threads: int) -> Reference:
    """The float graph of a source whose cache is f32, block by block (blocks.py)."""

    def run(calls: Sequence[Ids]) -> list[F32]:
        with step(progress, "run the source", constants(source.graph, entry)) as advance:
            found = run_blocks(source.graph, entry, calls, threads=threads, advance=advance)
        return [rows for (rows,) in found]

    return Reference(entry, run)


def onnx_model(path: Path, source: SourceModel, progress: Progress, threads: int) -> Reference:
    """The ONNX decoder or encoder itself. An encoder that gives rows is compared by them, else by its vector."""
    model = open_onnx_source(path, source.dims, threads)
    decoder = source.embedding is None
    columns = source.dims.vocab if source.embedding is None else source.embedding.columns
    rowwise = decoder or model.result(PROBE, columns * len(PROBE["tokens"])) is not None

    def run(calls: Sequence[Ids]) -> list[F32]:
        found = []
        with step(progress, "run the source", len(calls)) as advance:
            for ids in calls:
                rows = len(ids["tokens"]) if rowwise else 1
                result = model.result(ids, columns * rows)
                if result is None:
                    raise ValueError(f"{path.name} has no output of {rows} x {columns} numbers")
                found.append(result.reshape(rows, columns))
                advance(1)
        return found

    return Reference("hidden" if rowwise and not decoder else "main", run)


def constants(graph: Graph, entry: str) -> int:
    """Elements of the constants that an entry's results need."""
    results = graph.entries[entry][: len(graph.names(entry))]
    return sum(prod(op.value.shape) for op in order(results) if isinstance(op, Constant))


def whole_graph(source: GraphSource, threads: int) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """The ONNX model as it is."""
    engine = open_source(source.model, threads=threads)
    return lambda feeds: engine.run(
        {name: value for name, value in feeds.items() if name in engine.inputs}
    )
