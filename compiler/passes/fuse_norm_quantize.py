"""Quantize(RMSNorm(...)) -> RMSNormQuantize(...); Quantize(LayerNorm(...)) -> LayerNormQuantize(...)."""

from __future__ import annotations

from collections.abc import Callable

from hearth.compiler.ir.ops import (
    Graph,
    LayerNorm,
    LayerNormQuantize,
    Op,
    Quantize,
    RMSNorm,
    RMSNormQuantize,
)
from hearth.compiler.ir.rewrite import rewrite_counted


def _rule(op: Op, count: Callable[[Op], int]) -> Op | None:
    match op:
        case Quantize(x=RMSNorm(x=x, gain=gain, eps=eps) as norm) if count(norm) == 1:
            return RMSNormQuantize(x, gain, eps)
        case Quantize(x=LayerNorm(x=x, gain=gain, bias=bias, eps=eps) as norm) if count(norm) == 1:
            return LayerNormQuantize(x, gain, bias, eps)
    return None


def fuse_norm_quantize(graph: Graph) -> Graph:
    """Normalise and quantise a row while it is in registers."""
    return rewrite_counted(graph, _rule)
