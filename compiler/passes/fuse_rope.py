"""KVWrite(cache, RoPE(k)) -> KVWrite with tables; Attention(RoPE(q), ...) -> Attention with tables."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from hearth.compiler.ir.graph import Graph
from hearth.compiler.ir.ops import Attention, KVWrite, Op, RoPE
from hearth.compiler.ir.rewrite import rewrite_counted


def _rule(op: Op, count: Callable[[Op], int]) -> Op | None:
    match op:
        case KVWrite(x=RoPE(x=x, cos=cos, sin=sin) as rope, cos=None) if count(rope) == 1:
            return replace(op, x=x, cos=cos, sin=sin)
        case Attention(q=RoPE(x=x, cos=cos, sin=sin) as rope, cos=None) if count(rope) == 1:
            return replace(op, q=x, cos=cos, sin=sin)
    return None


def fuse_rope(graph: Graph) -> Graph:
    """Rotate keys while they are written and queries while they are read: no rotated copy exists."""
    return rewrite_counted(graph, _rule)
