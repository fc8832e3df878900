"""Linear(RMSNorm(x, gain), w) -> Linear(RMSNorm(x), w * gain)."""

from __future__ import annotations

from dataclasses import replace

from hearth.compiler.ir.ops import Constant, Graph, Linear, Op, RMSNorm
from hearth.compiler.ir.rewrite import all_outputs, order, rewrite, users
from hearth.compiler.ir.tensors import ScaledColumnsSource, Source


def _foldable(graph: Graph) -> set[Op]:
    """Gains whose norm feeds linears alone, each with a weight of its own (a tied table keeps its values)."""
    readers = users(graph)

    def takes(reader: Op, norm: Op) -> bool:
        match reader:
            case Linear(x=x, weight=Constant(value=value) as weight) if isinstance(value, Source):
                return x is norm and reader.residual is not norm and len(readers[weight]) == 1
        return False

    return {
        op.gain
        for op in order(all_outputs(graph))
        if isinstance(op, RMSNorm)
        and isinstance(op.gain, Constant)
        and len(readers[op.gain]) == 1
        and readers.get(op)
        and all(takes(reader, op) for reader in readers[op])
    }


def fold_norm_gain(graph: Graph) -> Graph:
    """The gain costs nothing at run time, and quantisation sees the weights the inputs really meet.

    As in QuaRot (Ashkboos et al. 2024, arXiv:2404.00456, section 4), which needs norms without gains.
    """
    foldable = _foldable(graph)
    bare: dict[Op, Op] = {}  # one norm without gain per norm, shared by its linears

    def rule(op: Op) -> Op | None:
        match op:
            case Linear(
                x=RMSNorm(gain=Constant(value=gain)) as norm, weight=Constant() as weight
            ) if norm.gain in foldable and isinstance(gain, Source):
                if not isinstance(weight.value, Source):
                    return None
                x = bare.setdefault(norm, replace(norm, gain=None))
                scaled = Constant(weight.name, ScaledColumnsSource(weight.value, gain))
                return replace(op, x=x, weight=scaled)
        return None

    return rewrite(graph, rule) if foldable else graph
