"""A graph of two kinds of nodes cut into convex groups, with as few groups of the first kind as there can be.

A node that stays ONNX belongs to the segment whose number is the most changes native -> ONNX on any way to it.
Each such change needs a segment of its own, and no more are made: the count is the least possible. Groups are
convex, since numbers never fall along an edge; islands of one number are told apart by their rows.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Sequence
from dataclasses import dataclass

import networkx as nx

Space = Hashable | None  # the rows of a native node; None: the node stays ONNX


@dataclass(frozen=True)
class Group:
    """Nodes that run together, in their order; a native one has one row space."""

    native: bool
    nodes: tuple[int, ...]


def partition(needs: Sequence[Collection[int]], spaces: Sequence[Space]) -> tuple[Group, ...]:
    """Groups in an order they can run in. `needs[i]` are the nodes (all below i) whose values node i reads."""
    levels, turns = _levels(needs, spaces)
    found: list[tuple[tuple[int, int, int], Group]] = []
    segments: dict[int, list[int]] = {}
    islands: dict[tuple[int, int, Space], list[int]] = {}
    for node, space in enumerate(spaces):
        if space is None:
            segments.setdefault(levels[node], []).append(node)
        else:
            islands.setdefault((levels[node], turns[node], space), []).append(node)
    for level, nodes in segments.items():
        found.append(((level, -1, nodes[0]), Group(False, tuple(nodes))))
    for (level, turn, _), nodes in islands.items():
        for part in _connected(nodes, needs):
            found.append(((level, turn, part[0]), Group(True, part)))
    return tuple(group for _, group in sorted(found, key=lambda each: each[0]))


def _levels(
    needs: Sequence[Collection[int]], spaces: Sequence[Space]
) -> tuple[list[int], list[int]]:
    """Each node's segment number (a native one runs after that segment), and its turn among islands of one number."""
    levels: list[int] = []
    turns: list[int] = []
    for node, space in enumerate(spaces):
        if space is None:
            steps = (levels[each] + (spaces[each] is not None) for each in needs[node])
            levels.append(max(steps, default=0))
            turns.append(0)
            continue
        level = max((levels[each] for each in needs[node]), default=-1)
        same = [each for each in needs[node] if spaces[each] is not None and levels[each] == level]
        levels.append(level)
        turns.append(max((turns[each] + (spaces[each] != space) for each in same), default=0))
    return levels, turns


def _connected(nodes: Sequence[int], needs: Sequence[Collection[int]]) -> list[tuple[int, ...]]:
    inside = set(nodes)
    graph = nx.Graph()
    graph.add_nodes_from(nodes)
    graph.add_edges_from((each, node) for node in nodes for each in needs[node] if each in inside)
    return sorted(tuple(sorted(part)) for part in nx.connected_components(graph))
