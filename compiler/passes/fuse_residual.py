"""Add(x, Linear(...)) -> Linear(..., residual=x)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from hearth.compiler.ir.graph import Graph
from hearth.compiler.ir.ops import Add, Linear, Op, tensor
from hearth.compiler.ir.rewrite import rewrite_counted


def _rule(op: Op, count: Callable[[Op], int]) -> Op | None:
    match op:
        case Add(a=x, b=Linear(residual=None) as linear) if count(linear) == 1:
            return replace(linear, residual=x)
        case Add(a=Linear(residual=None) as linear, b=x) if (
            count(linear) == 1 and len(tensor(x).shape) == 2
        ):
            return replace(linear, residual=x)
    return None


def fuse_residual(graph: Graph) -> Graph:
    """The residual as the last step of the linear's epilogue (a + b = b + a to the bit)."""
    return rewrite_counted(graph, _rule)
