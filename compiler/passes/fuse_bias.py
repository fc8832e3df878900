"""Add(Linear(x, w), bias vector) -> Linear(x, w, bias)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from hearth.compiler.ir.graph import Graph
from hearth.compiler.ir.ops import Add, Constant, Linear, Op, tensor
from hearth.compiler.ir.rewrite import rewrite_counted
from hearth.schemas.commands import Activation


def _rule(op: Op, count: Callable[[Op], int]) -> Op | None:
    match op:
        case Add(
            a=Linear(bias=None, residual=None, activation=Activation.NONE) as linear,
            b=Constant() as bias,
        ) if len(tensor(bias).shape) == 1 and count(linear) == 1:
            return replace(linear, bias=bias)
    return None


def fuse_bias(graph: Graph) -> Graph:
    """The bias as the first step of the linear's epilogue."""
    return rewrite_counted(graph, _rule)
