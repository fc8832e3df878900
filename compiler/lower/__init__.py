"""Lowering: a graph becomes a flat program, packed weights and a KV layout."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from hearth.compiler.ir.ops import Cache, Graph, Op, tensor
from hearth.compiler.ir.rewrite import all_outputs, order
from hearth.compiler.lower.check import check
from hearth.compiler.lower.emit import Emitter, IoPlace
from hearth.compiler.lower.kv import kv_layout
from hearth.compiler.lower.plan import Plan
from hearth.compiler.lower.targets import Target
from hearth.compiler.lower.weights import PackedTensor, WeightTable
from hearth.schemas.kv_layout import KVLayout
from hearth.schemas.program import Program, Rows

__all__ = ["Lowered", "PackedTensor", "check", "lower"]


@dataclass(frozen=True)
class Lowered:
    """The program, its weights in offset order, the KV layout, and each entry's memory plan."""

    program: Program
    weights: tuple[PackedTensor, ...]
    kv_layout: KVLayout
    plans: Mapping[str, Plan]


def lower(graph: Graph, target: Target, chunk: int | None = None) -> Lowered:
    """Select, plan and emit every entry; `chunk` is the most tokens of one prefill call."""
    most = target.chunk if chunk is None else chunk
    caches = [op.cache for op in order(all_outputs(graph)) if isinstance(op, Cache)]
    layout = kv_layout(caches)
    io = IoPlace(most, _vocab(graph))
    weights = WeightTable()
    emitted = {
        name: Emitter(target, weights, layout, io, _bounds(outputs[0], most)).run(outputs)
        for name, outputs in graph.entries.items()
    }
    entries = {name: each.entry for name, each in emitted.items()}
    program = Program(entries, weights.nbytes, layout.nbytes, io.nbytes)
    plans = {name: each.plan for name, each in emitted.items()}
    return Lowered(program, weights.in_order(), layout, plans)


def _bounds(logits: Op, most: int) -> Mapping[Rows, int]:
    """An entry whose logits are one row takes one token."""
    rows = 1 if tensor(logits).shape[0] == 1 else most
    return {Rows.T: rows, Rows.R: rows}


def _vocab(graph: Graph) -> int:
    widths = {tensor(outputs[0]).shape[1] for outputs in graph.entries.values()}
    (width,) = widths
    if not isinstance(width, int):
        raise TypeError("the logits have unknown columns")
    return width
