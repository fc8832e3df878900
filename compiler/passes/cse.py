"""Two ops that compute the same from the same operands -> one op."""

from __future__ import annotations

from dataclasses import fields

from hearth.compiler.ir.graph import Graph
from hearth.compiler.ir.ops import Constant, Op
from hearth.compiler.ir.rewrite import rewrite


def _key(op: Op) -> tuple[object, ...]:
    """Type, operands by identity, attributes by value."""
    return type(op), *(getattr(op, field.name) for field in fields(op))


def cse(graph: Graph) -> Graph:
    """Share common subexpressions; constants stay as they are (tying compares their values)."""
    first: dict[tuple[object, ...], Op] = {}

    def rule(op: Op) -> Op | None:
        if isinstance(op, Constant):
            return None
        return first.setdefault(_key(op), op)

    return rewrite(graph, rule)
