"""Activate(Linear, f) -> Linear(activation=f); Gated over both halves of a Linear -> Linear(that activation)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from hearth.compiler.ir.graph import Graph
from hearth.compiler.ir.ops import Activate, Gated, Linear, Op, Slice, tensor
from hearth.compiler.ir.rewrite import rewrite_counted
from hearth.schemas.commands import Activation


def _rule(op: Op, count: Callable[[Op], int]) -> Op | None:
    match op:
        case Activate(
            x=Linear(residual=None, activation=Activation.NONE) as linear, activation=function
        ) if count(linear) == 1:
            return replace(linear, activation=function)
        case Gated(
            gate=Slice(
                x=Linear(residual=None, activation=Activation.NONE) as linear, start=0, stop=half
            ),
            up=Slice(x=other, start=start, stop=stop),
            activation=function,
        ) if (
            other is linear
            and start == half
            and stop == 2 * half == tensor(linear).shape[1]
            and count(linear) == 2
        ):
            return replace(linear, activation=function)
    return None


def fuse_activation(graph: Graph) -> Graph:
    """The activation as a step of the linear's epilogue; the gated one needs merged gate/up rows."""
    return rewrite_counted(graph, _rule)
