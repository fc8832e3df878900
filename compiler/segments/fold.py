"""Small constants that a graph computes from stored ones are computed now, not at every load or run.

onnxruntime does not fold at load (runtime/graphs/onnx_engine.py): its folding has no bound, and a small file could
ask for any amount of memory.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import onnx

from hearth.compiler.frontend.onnx.initializers import DTYPES, HeldTensor
from hearth.compiler.frontend.onnx.model import Initializer, Node, OnnxModel
from hearth.compiler.frontend.onnx.sessions import cut, needed, reads
from hearth.runtime.graphs.onnx_engine import Guard, open_engine
from hearth.schemas.errors import HearthError

LARGEST = 64 << 10  # bytes of one result that is kept
MOST = 8 << 20  # of all of them
SECONDS = 10.0
# What gives other values each time, and what makes small stored weights large.
NEVER = {
    "Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform",
    "RandomUniformLike", "DequantizeLinear", "DynamicQuantizeLinear",
}  # fmt: skip


def fold_constants(model: OnnxModel) -> OnnxModel:
    """The model with small computed constants stored; the same object where there is nothing to fold."""
    nodes = _constant_nodes(model)
    made = {name for node in nodes for name in node.outputs if name}
    outputs = {each.name for each in model.outputs}
    kept = [node for node in model.nodes if node not in nodes]
    wanted = dict.fromkeys(name for node in kept for name in reads(node) if name in made)
    results = _computed(model, [*wanted, *sorted(made & outputs - wanted.keys())])
    return _stored(model, results) if results else model


def _constant_nodes(model: OnnxModel) -> set[Node]:
    """Nodes that read small stored tensors, and values of such nodes, alone."""
    known = {name for name, held in model.initializers.items() if held.nbytes <= LARGEST}
    found: set[Node] = set()
    for node in model.nodes:
        plain = not node.captures and not _graphs(node) and node.op_type not in NEVER
        if plain and all(name in known for name in reads(node)):
            found.add(node)
            known.update(node.outputs)
    return found


def _graphs(node: Node) -> bool:
    return any(isinstance(value, onnx.GraphProto) for value in node.attributes.values())


def _computed(model: OnnxModel, names: Sequence[str]) -> Mapping[str, Any]:
    """The values that are small tensors of numbers; none at all where onnxruntime fails on one."""
    if not names:
        return {}
    try:
        engine = open_engine(
            cut(model, names, {}).SerializeToString(),
            model.path.parent,
            threads=1,
            optimise=False,
            guard=Guard(seconds=SECONDS),
        )
        found = engine.run({})
    except HearthError:
        return {}
    kept, room = {}, MOST
    for name, value in found.items():
        if isinstance(value, np.ndarray) and _plain(value) and value.nbytes <= min(LARGEST, room):
            kept[name] = value
            room -= value.nbytes
    return kept


def _plain(value: np.ndarray[Any, Any]) -> bool:
    return value.dtype.kind in "biuf" and value.dtype in set(map(np.dtype, DTYPES.values()))


def _stored(model: OnnxModel, results: Mapping[str, Any]) -> OnnxModel:
    """The model with those values as initializers; nodes that made them alone are left out."""
    pairs = [
        (node, each)
        for node, each in zip(model.nodes, model.proto.graph.node, strict=True)
        if not all(name in results for name in node.outputs if name)
    ]
    partly = {name for node, _ in pairs for name in node.outputs}
    tensors = [
        onnx.numpy_helper.from_array(np.ascontiguousarray(value).reshape(value.shape), name)
        for name, value in results.items()
        if name not in partly
    ]
    proto = onnx.ModelProto()
    proto.CopyFrom(model.proto)
    del proto.graph.node[:]
    proto.graph.node.extend(each for _, each in pairs)
    proto.graph.initializer.extend(tensors)
    added: dict[str, Initializer] = {each.name: HeldTensor(each.name, each) for each in tensors}
    return _without_dead(
        replace(
            model,
            proto=proto,
            nodes=tuple(node for node, _ in pairs),
            initializers={**model.initializers, **added},
        )
    )


def _without_dead(model: OnnxModel) -> OnnxModel:
    """The model without nodes that no output needs."""
    indices = needed(model, [each.name for each in model.outputs], {})
    nodes = [model.proto.graph.node[index] for index in indices]
    proto = onnx.ModelProto()
    proto.CopyFrom(model.proto)
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)
    return replace(model, proto=proto, nodes=tuple(model.nodes[index] for index in indices))
