"""x + 0 -> x, norm with gain 1 or bias 0 -> norm without, a slice of all columns -> x, a slice of a slice -> one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from hearth.compiler.ir.graph import Graph
from hearth.compiler.ir.ops import (
    Add,
    Constant,
    HeadNorm,
    LayerNorm,
    Op,
    RMSNorm,
    Slice,
    tensor,
)
from hearth.compiler.ir.rewrite import rewrite
from hearth.compiler.ir.tensors import Source, read


def _is_all(op: Op, value: float) -> bool:
    """Whether op is a constant vector whose every element is `value`."""
    match op:
        case Constant(value=source) if isinstance(source, Source) and len(source.shape) == 1:
            return bool(np.all(read(source) == np.float32(value)))
    return False


def _plain_layer_norm(op: LayerNorm, gain: Op | None, bias: Op | None) -> Op:
    if gain is not None and _is_all(gain, 1.0):
        op = replace(op, gain=None)
    return replace(op, bias=None) if bias is not None and _is_all(bias, 0.0) else op


def _rule(op: Op) -> Op | None:
    match op:
        case Add(a=x, b=vector) if _is_all(vector, 0.0):
            return x
        case RMSNorm(gain=Constant() as gain) | HeadNorm(gain=Constant() as gain) if _is_all(
            gain, 1.0
        ):
            return replace(op, gain=None)
        case LayerNorm(gain=gain, bias=bias):
            return _plain_layer_norm(op, gain, bias)
        case Slice(x=x, start=0, stop=stop) if stop == tensor(x).shape[1]:
            return x
        case Slice(x=Slice(x=x, start=base), start=start, stop=stop):
            return Slice(x, base + start, base + stop)
    return None


def fold(graph: Graph) -> Graph:
    """Remove what does nothing. Source: algebraic identities of the ops in evaluate.py."""
    return rewrite(graph, _rule)
