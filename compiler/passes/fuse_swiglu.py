"""Mul(Activate(gate, SILU), up) -> SwiGLU(gate, up)."""

from __future__ import annotations

from hearth.compiler.ir.graph import Graph
from hearth.compiler.ir.ops import Activate, Mul, Op, SwiGLU
from hearth.compiler.ir.rewrite import rewrite
from hearth.schemas.commands import Activation


def _rule(op: Op) -> Op | None:
    match op:
        case (
            Mul(a=Activate(x=gate, activation=Activation.SILU), b=up)
            | Mul(a=up, b=Activate(x=gate, activation=Activation.SILU))
        ):
            return SwiGLU(gate, up)
    return None


def fuse_swiglu(graph: Graph) -> Graph:
    """The gated unit as one op."""
    return rewrite(graph, _rule)
