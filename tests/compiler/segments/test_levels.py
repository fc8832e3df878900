"""partition gives convex groups in an order that runs, and as few ONNX segments as exist."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import networkx as nx
from hypothesis import given
from hypothesis import strategies as st
from support.mutations import calm

from hearth.compiler.segments.levels import Group, partition

Case = tuple[list[set[int]], list[str | None]]


@st.composite
def cases(draw: st.DrawFn, most: int = 7, spaces: str = "ab") -> Case:
    """A graph of a few nodes, each native with one of the row spaces or ONNX (None)."""
    count = draw(st.integers(1, most))
    needs = [
        draw(st.sets(st.integers(0, node - 1), max_size=3)) if node else set()
        for node in range(count)
    ]
    return needs, [draw(st.sampled_from([None, *spaces])) for _ in range(count)]


def acyclic(needs: Sequence[set[int]], owner: Sequence[int]) -> bool:
    """Whether groups can run one after the other: no circle among them (so each is convex)."""
    graph = nx.DiGraph()
    graph.add_edges_from(
        (owner[each], owner[node])
        for node, sources in enumerate(needs)
        for each in sources
        if owner[each] != owner[node]
    )
    return nx.is_directed_acyclic_graph(graph)


def owners(groups: Sequence[Group], count: int) -> list[int]:
    owner = [-1] * count
    for number, group in enumerate(groups):
        for node in group.nodes:
            assert owner[node] == -1
            owner[node] = number
    assert -1 not in owner
    return owner


def ways(items: list[int]) -> Iterator[list[list[int]]]:
    """Every way to put items into sets."""
    if not items:
        yield []
        return
    first, rest = items[0], items[1:]
    for way in ways(rest):
        yield [[first], *way]
        for place in range(len(way)):
            yield [*way[:place], [first, *way[place]], *way[place + 1 :]]


def fewest(needs: Sequence[set[int]], spaces: Sequence[str | None]) -> int:
    """The least number of ONNX segments, by trying all; a native node by itself is the least constraint."""
    kept = [node for node, space in enumerate(spaces) if space is None]
    best = len(kept)
    for way in ways(kept):
        if len(way) < best:
            owner = list(range(len(needs), 2 * len(needs)))
            for number, nodes in enumerate(way):
                for node in nodes:
                    owner[node] = number
            if acyclic(needs, owner):
                best = len(way)
    return best


@calm
@given(cases())
def test_segments_are_as_few_as_can_be(case: Case) -> None:
    needs, spaces = case
    groups = partition(needs, spaces)
    assert sum(not group.native for group in groups) == fewest(needs, spaces)


@calm
@given(cases(most=40, spaces="abc"))
def test_groups_are_convex_and_in_order(case: Case) -> None:
    needs, spaces = case
    groups = partition(needs, spaces)
    owner = owners(groups, len(needs))
    assert acyclic(needs, owner)
    for node, sources in enumerate(needs):
        assert all(owner[each] <= owner[node] for each in sources)


@calm
@given(cases(most=40, spaces="abc"))
def test_islands_have_one_row_space_and_hang_together(case: Case) -> None:
    needs, spaces = case
    for group in partition(needs, spaces):
        assert list(group.nodes) == sorted(group.nodes)
        inside = {spaces[node] for node in group.nodes}
        assert group.native is (inside != {None}) and len(inside) == 1
        if group.native:
            graph = nx.Graph([(each, node) for node in group.nodes for each in needs[node]])
            graph.add_nodes_from(group.nodes)
            assert nx.is_connected(graph.subgraph(group.nodes))


def test_a_graph_without_native_nodes_is_one_segment() -> None:
    assert partition([set(), set(), {0}], [None] * 3) == (Group(False, (0, 1, 2)),)


def test_an_empty_graph_has_no_groups() -> None:
    assert partition([], []) == ()


def test_a_chain_alternates() -> None:
    groups = partition([set(), {0}, {1}, {2}], ["a", None, "a", None])
    assert [group.nodes for group in groups] == [(0,), (1,), (2,), (3,)]


def test_what_lies_beside_an_island_joins_the_segment_before_or_after() -> None:
    # 0 -> island 1 -> 2, and 3 that nothing holds back
    groups = partition([set(), {0}, {1}, set()], [None, "a", None, None])
    assert [group.nodes for group in groups] == [(0, 3), (1,), (2,)]
