"""The values of a graph: each made once, read only where it exists, nodes in an order that respects that."""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterable

import onnx

from hearth.compiler.frontend.onnx.functions import subgraphs
from hearth.schemas.errors import CheckpointError


def captures(node: onnx.NodeProto) -> tuple[str, ...]:
    """Values from outside that the subgraphs of a node read, in order of their first reading."""
    found: dict[str, None] = {}
    for graph in subgraphs(node):
        found.update(dict.fromkeys(_free(graph)))
    return tuple(found)


def _free(graph: onnx.GraphProto) -> Iterable[str]:
    own = {each.name for each in (*graph.input, *graph.initializer)}
    own |= {each.values.name for each in graph.sparse_initializer}
    own.update(name for node in graph.node for name in node.output)
    for node in graph.node:
        yield from (name for name in (*node.input, *captures(node)) if name and name not in own)
    yield from (each.name for each in graph.output if each.name not in own)


def reads(node: onnx.NodeProto) -> tuple[str, ...]:
    """All values a node needs."""
    return tuple(dict.fromkeys(name for name in (*node.input, *captures(node)) if name))


def sort_nodes(graph: onnx.GraphProto, given: Collection[str], where: str) -> None:
    """Put the nodes in order, the one they are in where it is one. `given`: the initializers."""
    nodes = list(graph.node)
    maker = _makers(graph, given, where)
    needs = [
        {maker[name] for name in reads(node) if maker[name] >= 0}
        for node in _checked(graph, maker, where)
    ]
    order = _order(needs)
    if len(order) < len(nodes):
        stuck = next(index for index in range(len(nodes)) if index not in set(order))
        raise CheckpointError(
            "onnx.cycle",
            f"nodes that wait for each other, {title(nodes[stuck])} among them",
            expected="a graph without cycles",
            where=where,
            remedy="export the model again",
        )
    if order != list(range(len(nodes))):
        ordered = [onnx.NodeProto.FromString(nodes[index].SerializeToString()) for index in order]
        del graph.node[:]
        graph.node.extend(ordered)


def _makers(graph: onnx.GraphProto, given: Collection[str], where: str) -> dict[str, int]:
    """The number of the node that makes each value, -1 for what is given."""
    maker = dict.fromkeys(given, -1)
    for each in graph.input:
        if not each.name or each.name in maker:
            raise duplicate("value", each.name, where)
        maker[each.name] = -1
    for index, node in enumerate(graph.node):
        for name in filter(None, node.output):
            if name in maker:
                raise duplicate("value", name, where)
            maker[name] = index
    outputs = [each.name for each in graph.output]
    if len(set(outputs)) < len(outputs):
        raise duplicate("output", max(outputs, key=outputs.count), where)
    return maker


def _checked(graph: onnx.GraphProto, maker: dict[str, int], where: str) -> Iterable[onnx.NodeProto]:
    for node in graph.node:
        for name in reads(node):
            if name not in maker:
                raise _missing(name, title(node), where)
        yield node
    for each in graph.output:
        if each.name not in maker:
            raise _missing(each.name, "the graph's outputs", where)


def _order(needs: list[set[int]]) -> list[int]:
    readers: list[list[int]] = [[] for _ in needs]
    for index, sources in enumerate(needs):
        for source in sources:
            readers[source].append(index)
    left = [len(sources) for sources in needs]
    ready = [index for index, count in enumerate(left) if not count]
    order = []
    while ready:
        order.append(heapq.heappop(ready))
        for reader in readers[order[-1]]:
            left[reader] -= 1
            if not left[reader]:
                heapq.heappush(ready, reader)
    return order


def title(node: onnx.NodeProto) -> str:
    """What messages call a node."""
    made = next(iter(node.output), "")
    return f"{node.op_type} {node.name!r}" if node.name else f"{node.op_type} -> {made!r}"


def duplicate(what: str, name: str, where: str) -> CheckpointError:
    """Two things of one name, or one without."""
    found = f"two {what}s called {name!r}" if name else f"a {what} without a name"
    return CheckpointError(
        "onnx.duplicate",
        found,
        expected="names that differ",
        where=where,
        remedy="export the model again",
    )


def _missing(name: str, reader: str, where: str) -> CheckpointError:
    return CheckpointError(
        "onnx.value_missing",
        f"{reader} reads {name!r}, which nothing makes",
        expected="a node, an input or a tensor of that name",
        where=where,
        remedy="export the model again",
    )
