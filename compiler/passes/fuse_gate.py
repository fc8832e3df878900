"""Mul(Activate(gate, f), up) -> Gated(gate, up), for every f that a gated activation has."""

from __future__ import annotations

from hearth.compiler.ir.graph import Graph
from hearth.compiler.ir.ops import Activate, Gated, Mul, Op
from hearth.compiler.ir.rewrite import rewrite
from hearth.schemas.commands import GATES

GATED = {function: activation for activation, function in GATES.items()}


def _rule(op: Op) -> Op | None:
    match op:
        case (
            Mul(a=Activate(x=gate, activation=function), b=up)
            | Mul(a=up, b=Activate(x=gate, activation=function))
        ) if function in GATED:
            return Gated(gate, up, GATED[function])
    return None


def fuse_gate(graph: Graph) -> Graph:
    """The gated unit as one op."""
    return rewrite(graph, _rule)
