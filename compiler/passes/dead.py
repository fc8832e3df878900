"""A cache that is written and never read by an attention -> not an output (and so not written)."""

from __future__ import annotations

from dataclasses import replace

from hearth.compiler.ir.graph import Graph
from hearth.compiler.ir.ops import Attention, KVWrite, Op
from hearth.compiler.ir.rewrite import all_outputs, order


def dead(graph: Graph) -> Graph:
    """Drop outputs that nothing can observe; what only they needed is gone with them.

    A graph holds exactly what its outputs reach, so no other op can be dead. A cache stays when any
    entry reads it: what prefill writes, decode reads.
    """
    read = {
        state.type
        for op in order(all_outputs(graph))
        if isinstance(op, Attention)
        for state in (op.k, op.v)
    }

    def observed(output: Op) -> bool:
        return not isinstance(output, KVWrite) or output.type in read

    entries = {
        name: tuple(output for output in outputs if observed(output))
        for name, outputs in graph.entries.items()
    }
    return graph if entries == dict(graph.entries) else replace(graph, entries=entries)
