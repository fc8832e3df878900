"""Quantize(RMSNorm(x, gain)) -> RMSNormQuantize(x, gain)."""

from __future__ import annotations

from collections.abc import Callable

from hearth.compiler.ir.ops import Graph, Op, Quantize, RMSNorm, RMSNormQuantize
from hearth.compiler.ir.rewrite import rewrite_counted


def _rule(op: Op, count: Callable[[Op], int]) -> Op | None:
    match op:
        case Quantize(x=RMSNorm(x=x, gain=gain, eps=eps) as norm) if count(norm) == 1:
            return RMSNormQuantize(x, gain, eps)
    return None


def fuse_norm_quantize(graph: Graph) -> Graph:
    """Normalise and quantise a row while it is in registers."""
    return rewrite_counted(graph, _rule)
