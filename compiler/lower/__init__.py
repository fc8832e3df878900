"""Lowering: a graph becomes a flat program, packed weights and a KV layout."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from hearth.compiler.ir.graph import Graph
from hearth.compiler.ir.ops import Cache, Constant, KVWrite, Op, Position, tensor
from hearth.compiler.ir.rewrite import all_outputs, order
from hearth.compiler.ir.types import CacheType, Dim
from hearth.compiler.lower.emit import Emitter
from hearth.compiler.lower.kv import kv_layout
from hearth.compiler.lower.plan import Plan
from hearth.compiler.lower.targets import Target
from hearth.compiler.lower.weights import PackedTensor, WeightTable
from hearth.schemas.kv_layout import KVLayout
from hearth.schemas.program import Program, Rows

__all__ = ["Lowered", "PackedTensor", "lower"]


@dataclass(frozen=True)
class Lowered:
    """The program, its weights in offset order, the KV layout, and each entry's memory plan."""

    program: Program
    weights: tuple[PackedTensor, ...]
    kv_layout: KVLayout
    plans: Mapping[str, Plan]


def lower(graph: Graph, target: Target, chunk: int | None = None) -> Lowered:
    """Select, plan and emit every entry; `chunk` is the most rows of one call (default: `most_rows`)."""
    caches = [op.cache for op in order(all_outputs(graph)) if isinstance(op, Cache)]
    most = most_rows(graph, caches, target) if chunk is None else chunk
    layout = kv_layout(caches)
    weights = WeightTable()
    emitted = {
        name: Emitter(target, weights, layout, _bounds(outputs, most)).run(
            outputs, graph.names(name)
        )
        for name, outputs in graph.entries.items()
    }
    entries = {name: each.entry for name, each in emitted.items()}
    io = max(each.io_nbytes for each in emitted.values())
    program = Program(entries, weights.nbytes, layout.nbytes, io)
    plans = {name: each.plan for name, each in emitted.items()}
    return Lowered(program, weights.in_order(), layout, plans)


def most_rows(graph: Graph, caches: Iterable[CacheType], target: Target) -> int:
    """A decoder reads a prompt in chunks; what names its results (an encoder) takes all its context at once."""
    if graph.is_decoder:
        return target.chunk
    return max((cache.context for cache in caches), default=target.chunk)


def _bounds(outputs: tuple[Op, ...], most: int) -> Mapping[Rows, int]:
    """`most` for a row count that the entry has; T of an entry without it are the rows it fixes (decode: 1)."""
    counts = {tensor(op).shape[0] for op in order(outputs) if _has_rows(op)}
    fixed = max((count for count in counts if isinstance(count, int)), default=1)
    t = most if Dim.T in counts else fixed
    return {Rows.T: t, Rows.R: t if Dim.R in counts else 1}


def _has_rows(op: Op) -> bool:
    """Ops that compute, and what they read in this call."""
    if isinstance(op, Constant | Position | Cache | KVWrite):
        return False
    return len(tensor(op).shape) > 0
