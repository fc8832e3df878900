"""A rotation at run time before the down projections: what no constant can undo, because a gated unit is not linear.

QuaRot's online Hadamard transform (Ashkboos et al. 2024, arXiv:2404.00456, section 4): down(x) = (W R)(x R), where R
is done by one more command per layer and W R before compilation.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from hearth.compiler.ir.graph import Graph
from hearth.compiler.ir.ops import Activate, Constant, Gated, Hadamard, Linear, Mul, Op, tensor
from hearth.compiler.ir.rewrite import all_outputs, order, rewrite_each, users
from hearth.compiler.ir.tensors import ArraySource
from hearth.compiler.transform.hadamard import Factors, dense, factors
from hearth.compiler.transform.mixed import MappedRows
from hearth.compiler.transform.rotation import Map, rotation
from hearth.compiler.transform.stream import linears_fed, require_floats
from hearth.schemas.commands import Activation


def rotate_down(graph: Graph) -> Graph:
    """The graph with a Hadamard before each linear that reads an activation's result; the weights' columns undo it.

    No random signs: they could be folded into up's rows, but change nothing for inputs that have no common sign.
    Widths without a known matrix are turned in blocks. CheckpointError `transform.rotate` for coded weights.
    """
    plan = _Plan()
    readers = users(graph)
    for op in order(all_outputs(graph)):
        fed = linears_fed(op, readers) if _activates(op) else None
        found = factors(int(tensor(op).shape[1])) if fed else None
        if fed and found is not None and found.order > 1:
            plan.turned[op] = found
            plan.linears.update(dict.fromkeys(fed, found))
    return rewrite_each(graph, plan.rewritten) if plan.turned else graph


def _activates(op: Op) -> bool:
    match op:
        case Linear(activation=activation):
            return activation is not Activation.NONE
        case Gated() | Activate():
            return True
        case Mul(a=a, b=b):  # a gate apart, its function perhaps in its linear's epilogue
            return _activates(a) or _activates(b)
    return False


class _Plan:
    """What is turned, and which constants were made so far: both entries share them."""

    def __init__(self) -> None:
        self.turned: dict[Op, Factors] = {}
        self.linears: dict[Op, Factors] = {}
        self.signs: dict[tuple[int, ...], Constant] = {}
        self.maps: dict[int, Map] = {}
        self.weights: dict[Op, Constant] = {}

    def rewritten(self, op: Op, rebuilt: Op) -> Op:
        """The op read through a Hadamard, or with the weight that a Hadamard needs."""
        if op in self.linears and isinstance(rebuilt, Linear) and isinstance(op, Linear):
            rebuilt = replace(rebuilt, weight=self._weight(op.weight, self.linears[op]))
        if op not in self.turned:
            return rebuilt
        found = self.turned[op]
        q, r = (*found.dense, 1, 1)[:2]
        return Hadamard(rebuilt, self._signs(found.dense), q, r, found.sylvester)

    def _signs(self, orders: tuple[int, ...]) -> Constant | None:
        """The transposed factors, one constant for all layers of a width."""
        if orders and orders not in self.signs:
            values = np.concatenate([dense(each).T.reshape(-1) for each in orders])
            name = f"hadamard.{'x'.join(map(str, orders))}"
            self.signs[orders] = Constant(name, ArraySource(values.astype(np.float32)))
        return self.signs.get(orders)

    def _weight(self, weight: Op, found: Factors) -> Constant:
        if weight not in self.weights:
            if not isinstance(weight, Constant):
                raise TypeError("a weight must be a constant")
            source = require_floats(weight)
            width = source.shape[1]
            turned = self.maps.setdefault(width, rotation(found.order, width, seed=None))
            self.weights[weight] = Constant(weight.name, MappedRows(source, turned))
        return self.weights[weight]
