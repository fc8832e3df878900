"""LastRows(f(x)) -> f(LastRows(x)) for every row-wise f: the LM head and the last MLP see only the rows asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from hearth.compiler.ir.graph import Graph
from hearth.compiler.ir.ops import (
    Activate,
    Add,
    Gated,
    HeadNorm,
    L2Normalize,
    LastRows,
    LayerNorm,
    LayerNormQuantize,
    Linear,
    Mul,
    Op,
    Quantize,
    RMSNorm,
    RMSNormQuantize,
    Scale,
    Slice,
    SoftCap,
    tensor,
)
from hearth.compiler.ir.rewrite import rewrite_counted, to_fixpoint
from hearth.compiler.passes.cse import cse

NORMS = (RMSNorm, RMSNormQuantize, LayerNorm, LayerNormQuantize, L2Normalize, HeadNorm)
ROW_WISE = (Activate, Add, Gated, Linear, Mul, Quantize, Scale, Slice, SoftCap, *NORMS)


def _hoist(op: Op, count: Callable[[Op], int]) -> Op | None:
    match op:
        case LastRows(x=x) if isinstance(x, ROW_WISE) and count(x) == 1:
            tall = tensor(x).shape[0]

            def last(operand: Op) -> Op:
                is_activation = (
                    tensor(operand).shape[:1] == (tall,) and len(tensor(operand).shape) == 2
                )
                return replace(op, x=operand) if is_activation else operand

            return x.with_operands(tuple(last(operand) for operand in x.operands))
    return None


def last_rows(graph: Graph) -> Graph:
    """Hoist as far as the last attention, whose rows the caches do not need."""
    return to_fixpoint(graph, lambda before: cse(rewrite_counted(before, _hoist)))
