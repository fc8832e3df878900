"""Model-local functions: counted before they are inlined, so that nested calls cannot blow a model up."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import onnx
import onnx.inliner

from hearth.compiler.frontend.onnx.wire import MAX_NODES
from hearth.schemas.errors import CheckpointError

Key = tuple[str, str, str]


def inline(model: onnx.ModelProto, where: str) -> onnx.ModelProto:
    """The model without calls of its own functions."""
    if not model.functions:
        return model
    functions = {
        _key(function.domain, function.name, function.overload): function
        for function in model.functions
    }
    if len(functions) != len(model.functions):
        raise _refuse("two functions of one name", where)
    sizes = _sizes(functions, where)
    total = _cost(model.graph.node, sizes)
    if total > MAX_NODES:
        raise _refuse(f"functions that unfold to {total} nodes", where)
    try:
        inlined = onnx.inliner.inline_local_functions(model)
    except Exception as error:  # the inliner's C++ checks
        raise _refuse(f"functions that cannot be inlined ({error})"[:300], where) from None
    return inlined


def walk(nodes: Sequence[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    """All nodes, those of subgraphs too."""
    waiting = [nodes]
    while waiting:
        for node in waiting.pop():
            yield node
            waiting.extend(graph.node for graph in subgraphs(node))


def subgraphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """The graphs among a node's attributes."""
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def _key(domain: str, name: str, overload: str) -> Key:
    return ("" if domain == "ai.onnx" else domain, name, overload)


def _called(node: onnx.NodeProto) -> Key:
    return _key(node.domain, node.op_type, node.overload)


def _cost(nodes: Sequence[onnx.NodeProto], sizes: dict[Key, int]) -> int:
    return sum(sizes.get(_called(node), 1) for node in walk(nodes))


def _sizes(functions: dict[Key, onnx.FunctionProto], where: str) -> dict[Key, int]:
    """Nodes each function unfolds to, callees first; a circle of calls is refused."""
    sizes: dict[Key, int] = {}
    open_calls: list[tuple[Key, Iterator[Key]]] = []
    for start in functions:
        _enter(start, functions, open_calls)
        while open_calls:
            key, callees = open_calls[-1]
            callee = next((each for each in callees if each not in sizes), None)
            if callee is None:
                open_calls.pop()
                sizes.setdefault(key, min(_cost(functions[key].node, sizes), 1 << 62))
            elif any(callee == key for key, _ in open_calls):
                raise _refuse(f"the function {callee[1]!r} calls itself", where)
            else:
                _enter(callee, functions, open_calls)
    return sizes


def _enter(
    key: Key, functions: dict[Key, onnx.FunctionProto], calls: list[tuple[Key, Iterator[Key]]]
) -> None:
    callees = {
        called for node in walk(functions[key].node) if (called := _called(node)) in functions
    }
    calls.append((key, iter(sorted(callees))))


def _refuse(found: str, where: str) -> CheckpointError:
    return CheckpointError(
        "onnx.functions",
        found,
        expected=f"functions that unfold to at most {MAX_NODES} nodes",
        where=where,
        remedy="export the model again",
    )
