"""Static codes for tests: ranges measured by numpy, and an archive compiled with them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from hearth.compiler import frontend
from hearth.compiler.frontend import SourceModel
from hearth.compiler.ir.evaluate import run_entry
from hearth.compiler.ir.graph import Graph
from hearth.compiler.ir.meanings import Value
from hearth.compiler.ir.ops import Constant, KVWrite, Linear, Op
from hearth.compiler.ir.rewrite import order
from hearth.compiler.ir.state import Stored
from hearth.compiler.ir.types import CacheType
from hearth.compiler.lower import lower
from hearth.compiler.lower.targets import TARGETS
from hearth.compiler.package import Native, native_package, write_parts
from hearth.compiler.passes import FLOAT_PASSES, QUANTISED_PASSES, run_passes
from hearth.compiler.quantize import Scheme, Statics, quantize
from hearth.compiler.quantize.ranges import Histogram, RangeName, static
from hearth.runtime.archive.writer import ArchiveWriter
from hearth.runtime.progress import Silent
from hearth.schemas.commands import KVScheme


def measured(graph: Graph, entry: str, ids: Sequence[int], ranges: RangeName = "minmax") -> Statics:
    """What the linears and the caches of a float graph with float caches see of one text."""
    outputs = graph.entries[entry]
    read = {op.x for op in order(outputs) if isinstance(op, Linear)}
    seen: dict[Op, Histogram] = {}

    def watch(op: Op, value: Value) -> None:
        rows = value.values if isinstance(value, Stored) else value
        if (op in read or isinstance(op, KVWrite)) and isinstance(rows, np.ndarray):
            seen.setdefault(op, Histogram()).add(np.asarray(rows, np.float32))

    run_entry(graph, entry, {"tokens": np.array(ids)}, logit_rows=len(ids), watch=watch)
    inputs, caches = {}, {}
    for op in order(outputs):
        match op:
            case Linear(x=x, weight=Constant(name=name)):
                inputs[name] = static(seen[x], ranges)
            case KVWrite(type=CacheType(layer=layer, kind=kind)):
                caches[layer, kind] = static(seen[op], ranges)
    return Statics(inputs, caches)


def float_model(
    source: Path, context: int, kv: KVScheme = KVScheme.F32
) -> tuple[SourceModel, Graph]:
    """A checkpoint and its graph before quantisation."""
    model = frontend.load(source, context=context, kv=kv)
    assert isinstance(model, SourceModel)
    return model, run_passes(FLOAT_PASSES, model.graph)


def coded_graph(graph: Graph, scheme: Scheme, statics: Statics) -> Graph:
    """What is lowered."""
    return run_passes(QUANTISED_PASSES, quantize(graph, scheme, statics=statics))


def write_archive(model: SourceModel, graph: Graph, scheme: Scheme, output: Path) -> None:
    """The archive of a quantised graph, without golden vectors and provenance."""
    target = TARGETS["x86-64-avx512vnni"]
    native = Native("test", model, scheme, target, lower(graph, target))
    with ArchiveWriter(output) as writer:
        write_parts(writer, native_package(native), Silent())
