"""`If` over a switch input, as merged decoders have it: the branch that goes on from a past, in place of the node."""

from __future__ import annotations

from dataclasses import replace

import onnx
from onnx import TensorProto

from hearth.compiler.frontend.onnx.initializers import HeldTensor
from hearth.compiler.frontend.onnx.model import Node, OnnxModel
from hearth.compiler.frontend.onnx.reader import lift_constants, node_of

MOST = 8  # such nodes, one inside the other or side by side


def with_past(model: OnnxModel) -> OnnxModel:
    """The model with each such node replaced by its branch for true; the model itself where there is none."""
    for _ in range(MOST):
        node = _switched(model)
        branch = None if node is None else node.attributes.get("then_branch")
        if node is None or not isinstance(branch, onnx.GraphProto):
            break
        inlined = _inlined(model, node, branch)
        if inlined is None:
            break
        model = inlined
    return model


def _switched(model: OnnxModel) -> Node | None:
    """The first If whose condition is an input of one truth value."""
    switches = {info.name for info in model.inputs if info.dtype == TensorProto.BOOL}
    for node in model.nodes:
        if node.op_type == "If" and not node.domain and switches.intersection(node.inputs):
            return node
    return None


def _inlined(model: OnnxModel, node: Node, branch: onnx.GraphProto) -> OnnxModel | None:
    """None where a name of the branch is taken."""
    graph = onnx.GraphProto()
    graph.CopyFrom(branch)
    lift_constants(graph)
    made = {name for each in graph.node for name in each.output if name}
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    taken = {*model.producers, *model.initializers, *(info.name for info in model.inputs)}
    if taken.intersection(made) or taken.intersection(tensors):
        return None
    protos = list(graph.node)
    for inner, outer in zip(graph.output, node.outputs, strict=False):
        if outer:
            protos.append(onnx.helper.make_node("Identity", [inner.name], [outer]))
    place = model.nodes.index(node)
    proto = onnx.ModelProto()
    proto.CopyFrom(model.proto)
    nodes = [*proto.graph.node[:place], *protos, *proto.graph.node[place + 1 :]]
    kept = [onnx.NodeProto.FromString(each.SerializeToString()) for each in nodes]
    del proto.graph.node[:]
    proto.graph.node.extend(kept)
    proto.graph.initializer.extend(tensors.values())
    return replace(
        model,
        proto=proto,
        nodes=(*model.nodes[:place], *map(node_of, protos), *model.nodes[place + 1 :]),
        initializers={
            **model.initializers,
            **{name: HeldTensor(name, tensor) for name, tensor in tensors.items()},
        },
    )
