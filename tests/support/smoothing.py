"""How loud the inputs of a decoder's linears are: the maxima that a calibration gives, from a few ids."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hearth.compiler.ir.evaluate import run_entry
from hearth.compiler.ir.graph import Graph
from hearth.compiler.ir.meanings import Value
from hearth.compiler.ir.ops import Constant, Linear, Op
from hearth.compiler.ir.rewrite import order

F32 = NDArray[np.float32]


def maxima(graph: Graph, ids: NDArray[np.int64], entry: str = "prefill") -> dict[str, F32]:
    """max |x[k]| over the rows of each linear's input, by the name of its weight."""
    made: dict[Op, Value] = {}
    run_entry(graph, entry, {"tokens": ids}, watch=made.__setitem__)
    found = {}
    for op in order(graph.entries[entry]):
        match op:
            case Linear(x=x, weight=Constant(name=name)):
                found[name] = np.asarray(np.abs(made[x]).max(axis=0), np.float32)
    return found


def loudness(found: dict[str, F32], part: str) -> float:
    """The largest max / median over the linears of which `part` is in the weight's name."""
    ratios = [float(each.max() / np.median(each)) for name, each in found.items() if part in name]
    return max(ratios)
