"""Regions: the nodes between one data value and another, recognised by what they compute, not by how it is written.

A region is run at random inputs and compared with what the IR has (rules/region_*.py); so every way to write a norm, an
activation or a rotation is one rule.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hearth.compiler.frontend.onnx.dependence import reads_shape_only
from hearth.compiler.frontend.onnx.model import Node
from hearth.compiler.frontend.onnx.raising import Raising
from hearth.compiler.frontend.onnx.sessions import reads
from hearth.compiler.frontend.onnx.values import Blocked, Mismatch, Point, View

F32 = NDArray[np.float32]

MOST_NODES = 64
MOST_LEAVES = 4  # values tried as the start of a region, nearest first

POINTWISE = frozenset((
    "Abs", "Add", "BiasGelu", "Cast", "CastLike", "Clip", "Div", "Dropout", "Elu", "Equal", "Erf", "Exp", "FastGelu",
    "Gelu", "Greater", "GreaterOrEqual", "HardSigmoid", "HardSwish", "Identity", "IsInf", "IsNaN", "Less",
    "LessOrEqual", "Log", "Max", "Min", "Mish", "Mul", "Neg", "Not", "Or", "And", "Pow", "QuickGelu", "Reciprocal",
    "Relu", "Selu", "Sigmoid", "Sign", "Softplus", "Softsign", "Sqrt", "Sub", "Sum", "Swish", "Tanh", "Where",
))  # fmt: skip
ROWWISE = frozenset((
    "LpNormalization", "MeanVarianceNormalization", "ReduceL2", "ReduceMax", "ReduceMean", "ReduceSum",
    "ReduceSumSquare",
))  # fmt: skip
MOVING = frozenset((
    "Concat", "Expand", "Flatten", "Gather", "Reshape", "RotaryEmbedding", "Slice", "Split", "Squeeze", "Tile",
    "Transpose", "Unsqueeze",
))  # fmt: skip
REGION_OPS = POINTWISE | ROWWISE | MOVING

Recogniser = Callable[["Region", Raising], View]


@dataclass(frozen=True, eq=False)
class Region:
    """From `leaf` (whose view is known) to `output`, through `nodes`, which read no other data."""

    leaf: str
    view: View
    output: str
    nodes: tuple[Node, ...]
    raising: Raising

    def run(self, points: Sequence[Point], given: Sequence[F32]) -> tuple[F32, ...]:
        """The output for an input at each point."""
        results = self.raising.probes.run((self.output,), points, {self.leaf: given})[0]
        return tuple(np.asarray(result, np.float32) for result in results)

    def draw(self, point: Point, spread: float = 1.0) -> F32:
        """A random input of the leaf's shape; always the same."""
        rng = np.random.default_rng(point.tokens + 1000 * point.past)
        return (rng.standard_normal(point.shape(self.view)) * spread).astype(np.float32)

    @cached_property
    def sample(self) -> tuple[F32, F32]:
        """One input and its output."""
        point = self.raising.probes.points[0]
        x = self.draw(point, 2.0)
        return x, self.run((point,), (x,))[0]

    def constants(self) -> Iterator[float]:
        """The numbers that the nodes compute with."""
        for node in self.nodes:
            for value in node.attributes.values():
                if isinstance(value, float):
                    yield value
            for name in node.inputs:
                if name and not self.raising.is_data(name):
                    number = self.raising.constants.scalar(name)
                    if number is not None:
                        yield number


def in_region(node: Node, raising: Raising) -> bool:
    """Whether a node may lie inside a region: it reads data, and not as an index."""
    if node.op_type not in REGION_OPS:
        return False
    return node.op_type != "Gather" or not raising.is_data(node.inputs[1])


def regions(output: str, raising: Raising) -> Iterator[tuple[str, tuple[Node, ...]]]:
    """(leaf, nodes) of each value that everything before `output` passes through, nearest first."""
    nodes: list[Node] = []
    frontier = {output: raising.model.producers[output]}
    leaves: set[str] = set()
    while frontier:
        _, node = max(frontier.items(), key=lambda item: raising.order[item[1]])
        if not in_region(node, raising) or len(nodes) >= MOST_NODES:
            return
        for made in node.outputs:
            frontier.pop(made, None)
        if node not in nodes:
            nodes.append(node)
        for read in _data(node, raising):
            producer = raising.model.producers.get(read)
            if producer is None:
                leaves.add(read)
            else:
                frontier[read] = producer
        if len(frontier) + len(leaves) == 1:
            yield next(iter((*frontier, *leaves))), tuple(reversed(nodes))


def _data(node: Node, raising: Raising) -> list[str]:
    if reads_shape_only(node):
        return []
    return [name for name in dict.fromkeys(reads(node)) if raising.is_data(name)]


def recognise(output: str, raising: Raising, recognisers: Sequence[Recogniser]) -> View:
    """The first recogniser that fits the nearest region."""
    found: list[str] = []
    tried = 0
    for leaf, nodes in regions(output, raising):
        if tried == MOST_LEAVES:
            break
        tried += 1
        try:
            view = raising.view(leaf)
        except Mismatch:
            continue
        region = Region(leaf, view, output, nodes, raising)
        for recogniser in recognisers:
            try:
                return recogniser(region, raising)
            except Blocked:
                raise
            except Mismatch as mismatch:
                found.append(str(mismatch))
    if not found:
        raise Blocked("computes with values that are not raised")
    raise Mismatch("; ".join(dict.fromkeys(found)))


def close(a: NDArray[Any], b: NDArray[Any], bound: float) -> bool:
    """|a - b| <= bound * max|b|, and the same shape; what is not finite is not close."""
    if a.shape != b.shape or not np.all(np.isfinite(a)) or not np.all(np.isfinite(b)):
        return False
    largest = float(np.max(np.abs(b), initial=0.0))
    return float(np.max(np.abs(a - b), initial=0.0)) <= bound * max(largest, 1e-30)
