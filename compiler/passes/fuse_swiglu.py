"""Mul(Silu(gate), up) -> SwiGLU(gate, up)."""

from __future__ import annotations

from hearth.compiler.ir.ops import Graph, Mul, Op, Silu, SwiGLU
from hearth.compiler.ir.rewrite import rewrite


def _rule(op: Op) -> Op | None:
    match op:
        case Mul(a=Silu(x=gate), b=up) | Mul(a=up, b=Silu(x=gate)):
            return SwiGLU(gate, up)
    return None


def fuse_swiglu(graph: Graph) -> Graph:
    """The gated unit as one op."""
    return rewrite(graph, _rule)
