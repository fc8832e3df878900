"""What the source itself computes, run in onnxruntime: the other side of the comparison."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hearth.compiler.check.blocks import run_blocks
from hearth.compiler.frontend import SourceModel
from hearth.compiler.frontend.onnx.graph_source import GraphSource
from hearth.compiler.frontend.onnx.sessions import open_source
from hearth.compiler.ir.ops import Constant, Graph
from hearth.compiler.ir.rewrite import order
from hearth.runtime.progress import Progress, step

F32 = NDArray[np.float32]
Ids = Mapping[str, NDArray[np.int32]]
# The one result of an entry ("main": logits [T, V] or a vector [1, E]; "hidden": rows [T, E]) for each call.
Reference = Callable[[str, Sequence[Ids]], list[F32]]


def float_graph(source: SourceModel, progress: Progress, threads: int) -> Reference:
    """The float graph of a source whose cache is f32, block by block (blocks.py)."""

    def run(entry: str, calls: Sequence[Ids]) -> list[F32]:
        with step(progress, "run the source", constants(source.graph, entry)) as advance:
            found = run_blocks(source.graph, entry, calls, threads=threads, advance=advance)
        return [rows for (rows,) in found]

    return run


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
