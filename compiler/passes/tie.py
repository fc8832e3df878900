"""Two constants with the same values -> one constant (tied embeddings are stored once)."""

from __future__ import annotations

import numpy as np

from hearth.compiler.ir.graph import Graph
from hearth.compiler.ir.ops import Constant, Op
from hearth.compiler.ir.rewrite import all_outputs, order, rewrite
from hearth.compiler.ir.tensors import Source

_ROWS = 1024


def _key(source: Source) -> tuple[object, ...]:
    """Cheap: equal sources have equal keys."""
    return source.shape, source.stored, source.rows(0, min(1, source.shape[0])).tobytes()


def _equal(a: Source, b: Source) -> bool:
    """Compare row range by row range; stops at the first difference."""
    if a is b:
        return True
    count = a.shape[0]
    ranges = ((start, min(start + _ROWS, count)) for start in range(0, count, _ROWS))
    return all(np.array_equal(a.rows(*part), b.rows(*part)) for part in ranges)


def tie(graph: Graph) -> Graph:
    """The first constant in topological order stands for all equal ones."""
    buckets: dict[tuple[object, ...], list[tuple[Constant, Source]]] = {}
    canonical: dict[Op, Op] = {}
    for op in order(all_outputs(graph)):
        if not isinstance(op, Constant) or not isinstance(op.value, Source):
            continue
        source = op.value
        if len(source.shape) < 2:
            continue  # vectors are too small to matter
        bucket = buckets.setdefault(_key(source), [])
        for first, known in bucket:
            if _equal(known, source):
                canonical[op] = first
                break
        else:
            bucket.append((op, source))
    return rewrite(graph, canonical.get) if canonical else graph
