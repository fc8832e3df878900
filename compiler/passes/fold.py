"""x + 0 -> x, norm with gain 1 -> norm without, a slice of all columns -> x, a slice of a slice -> one slice."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from hearth.compiler.ir.ops import Add, Constant, Graph, Op, RMSNorm, Slice, tensor
from hearth.compiler.ir.rewrite import rewrite
from hearth.compiler.ir.tensors import Source, read


def _is_all(op: Op, value: float) -> bool:
    """Whether op is a constant vector whose every element is `value`."""
    match op:
        case Constant(value=source) if isinstance(source, Source) and len(source.shape) == 1:
            return bool(np.all(read(source) == np.float32(value)))
    return False


def _rule(op: Op) -> Op | None:
    match op:
        case Add(a=x, b=vector) if _is_all(vector, 0.0):
            return x
        case RMSNorm(gain=Constant() as gain) if _is_all(gain, 1.0):
            return replace(op, gain=None)
        case Slice(x=x, start=0, stop=stop) if stop == tensor(x).shape[1]:
            return x
        case Slice(x=Slice(x=x, start=base), start=start, stop=stop):
            return Slice(x, base + start, base + stop)
    return None


def fold(graph: Graph) -> Graph:
    """Remove what does nothing. Source: algebraic identities of the ops in evaluate.py."""
    return rewrite(graph, _rule)
