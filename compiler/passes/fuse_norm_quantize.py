"""Quantize(RMSNorm(...)) -> RMSNormQuantize(...); Quantize(LayerNorm(...)) -> LayerNormQuantize(...)."""

from __future__ import annotations

from collections.abc import Callable

from hearth.compiler.ir.graph import Graph
from hearth.compiler.ir.ops import (
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
        case Quantize(x=RMSNorm() as norm, static=static) if count(norm) == 1:
            return RMSNormQuantize(norm.x, norm.gain, norm.eps, static)
        case Quantize(x=LayerNorm() as norm, static=static) if count(norm) == 1:
            return LayerNormQuantize(norm.x, norm.gain, norm.bias, norm.eps, static)
    return None


def fuse_norm_quantize(graph: Graph) -> Graph:
    """Normalise and quantise a row while it is in registers."""
    return rewrite_counted(graph, _rule)
