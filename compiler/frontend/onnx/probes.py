"""Probes: position-only values computed by running their part of the graph at several (tokens, past) points.

Nothing is inferred from how an exporter writes its shapes, masks and tables; they are run and their results read. Half
precision is computed in float32, which states the same function.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hearth.compiler.frontend.onnx.dependence import reads_shape_only
from hearth.compiler.frontend.onnx.model import Node, OnnxModel
from hearth.compiler.frontend.onnx.sessions import reads
from hearth.compiler.frontend.onnx.subgraphs import Runner
from hearth.compiler.frontend.onnx.values import Mismatch, Point, Rows, Size, Value

Array = NDArray[Any]
Feeds = Callable[[Point], Mapping[str, Array]]

POINTS = (Point(5, 7), Point(3, 11), Point(1, 6), Point(6, 0))
WITHOUT_PAST = (Point(5, 0), Point(3, 0), Point(1, 0), Point(6, 0))
MOST_NODES = 2000  # of one probe


@dataclass(eq=False)
class Probes:
    """Values by name at points. `feeds` gives the graph's position-only inputs; `resolved` the data values known so

    far, of which a probe needs but the shape.
    """

    model: OnnxModel
    runner: Runner
    feeds: Feeds
    data: Collection[str]
    resolved: Mapping[str, Value]
    points: tuple[Point, ...]
    _known: dict[str, tuple[Array, ...]] = field(default_factory=dict)

    @cached_property
    def _order(self) -> Mapping[Node, int]:
        return {node: index for index, node in enumerate(self.model.nodes)}

    def values(self, name: str) -> tuple[Array, ...]:
        """A position-only value at each of `points`."""
        if name not in self._known:
            self._known[name] = self._constant(name) or self.run((name,), self.points)[0]
        return self._known[name]

    def _constant(self, name: str) -> tuple[Array, ...] | None:
        if name in self.model.initializers:
            return (self.runner.initializer(name),) * len(self.points)
        return None

    def run(
        self,
        names: Sequence[str],
        points: Sequence[Point],
        given: Mapping[str, Sequence[Array]] | None = None,
    ) -> list[tuple[Array, ...]]:
        """Values at points, with the arrays of `given` (one per point) in place of what makes those values."""
        given = dict(given or {})
        nodes, ends = self._cone(names, given, memo=points is self.points)
        fed = [self._feed(ends, index, point, given) for index, point in enumerate(points)]
        results = self.runner.run(nodes, fed, names)
        return [tuple(result[i] for result in results) for i in range(len(names))]

    def _cone(
        self, names: Sequence[str], given: Mapping[str, Any], memo: bool
    ) -> tuple[list[Node], list[str]]:
        """The nodes to run, in order, and the values to feed."""
        nodes: set[Node] = set()
        ends: list[str] = []
        stack, shapes, seen = list(names), list[str](), set(names)
        while stack or shapes:
            of_shape = (
                not stack
            )  # a value whose shape alone is read need not be computed, if raised
            name = stack.pop() if stack else shapes.pop()
            if of_shape and name in seen:
                continue
            seen.add(name)
            node = self.model.producers.get(name)
            known = memo and name in self._known and name not in names
            if name in given or known or (of_shape and name in self.resolved) or node is None:
                if name in given or name in names or name not in self.model.initializers:
                    ends.append(name)
                continue
            nodes.add(node)
            if len(nodes) > MOST_NODES:
                raise Mismatch(f"{names[0]!r} takes more than {MOST_NODES} nodes to compute")
            if reads_shape_only(node):
                shapes += node.inputs[:1]
                continue
            new = [each for each in reads(node) if each not in seen]
            seen.update(new)
            stack += new
        return sorted(nodes, key=self._order.__getitem__), ends

    def _feed(
        self, ends: Sequence[str], index: int, point: Point, given: Mapping[str, Sequence[Array]]
    ) -> dict[str, Array]:
        inputs = self.feeds(point)
        fed: dict[str, Array] = {}
        for name in ends:
            if name in given:
                fed[name] = given[name][index]
            elif name in self.resolved:
                fed[name] = point.zeros(self.resolved[name])
            elif name in inputs:
                fed[name] = inputs[name]
            elif name in self.model.initializers:
                fed[name] = self.runner.initializer(name)
            elif name in self._known:
                fed[name] = self._known[name][index]
            else:
                raise Mismatch(f"it needs {name!r}, which was not raised")
        return fed

    def constant(self, name: str) -> Array | None:
        """The value, if it is the same at all points."""
        first, *others = self.values(name)
        return first if all(np.array_equal(first, other) for other in others) else None

    def sizes(self, name: str) -> tuple[Size, ...]:
        """A shape, or bounds: each element a constant, T, P or P + T."""
        arrays = [np.atleast_1d(array) for array in self.values(name)]
        if len({array.shape for array in arrays}) != 1 or arrays[0].ndim != 1:
            raise Mismatch(f"{name!r} is no list of sizes")
        return tuple(
            self._size(name, [int(array[i]) for array in arrays]) for i in range(len(arrays[0]))
        )

    def _size(self, name: str, found: list[int]) -> Size:
        if len(set(found)) == 1:
            return found[0]
        for size in Rows:
            if found == [point.size(size) for point in self.points]:
                return size
        raise Mismatch(f"{name!r} has the sizes {found}, which are no T, P or P + T")
