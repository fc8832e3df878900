"""A model without the quantisation of its activations: the weights keep their codes, what multiplies them is float.

Each rewrite gives a valid model of the same function but for the rounding of activations.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import onnx

from hearth.compiler.frontend.onnx.model import Node, OnnxModel

MICROSOFT = "com.microsoft"
DOMAINS = ("", MICROSOFT)
NOTE = (
    "the activations of the source are quantised; here they are computed as the compile options say"
)


@dataclass(eq=False)
class Edit:
    """What becomes of the nodes: `renamed` values are read under another name, `made` stand in a node's place."""

    model: OnnxModel
    renamed: dict[str, str] = field(default_factory=dict)
    made: dict[str, tuple[Node, ...]] = field(
        default_factory=dict
    )  # by the value that they make anew

    def producer(self, name: str, *op_types: str) -> Node | None:
        """The node that makes a value, if it is one of these operators."""
        node = self.model.producers.get(name)
        fits = node is not None and node.domain in DOMAINS and node.op_type in op_types
        return node if fits else None

    def only_reader(self, name: str, *op_types: str) -> Node | None:
        """The one node that reads a value, if it is one of these operators."""
        readers = self.model.consumers.get(name, ())
        if len(readers) != 1 or name in {each.name for each in self.model.outputs}:
            return None
        node = readers[0]
        return node if node.domain in DOMAINS and node.op_type in op_types else None

    def is_stored(self, name: str) -> bool:
        return name in self.model.initializers

    def scalar(self, name: str) -> bool:
        """Whether a stored value has one element."""
        shape = self.model.initializers[name].shape if self.is_stored(name) else (0,)
        return all(size == 1 for size in shape)


def without_activation_quantisation(model: OnnxModel) -> tuple[OnnxModel, tuple[str, ...]]:
    """(the rewritten model, notes); the model itself where there is nothing to rewrite."""
    edit = Edit(model)
    for node in model.nodes:
        rewrite = REWRITES.get(node.op_type)
        if rewrite is not None and node.domain in DOMAINS:
            rewrite(node, edit)
    if not edit.renamed and not edit.made:
        return model, ()
    return _applied(model, edit), (NOTE,)


def _round_trip(node: Node, edit: Edit) -> None:
    """DequantizeLinear(QuantizeLinear(x)) by one scale: x. Of gathered codes: the dequantised table gathered."""
    before = edit.producer(node.inputs[0], "QuantizeLinear")
    if before is not None:
        if before.inputs[1:] == node.inputs[1:] and not edit.is_stored(before.inputs[0]):
            edit.renamed[node.outputs[0]] = before.inputs[0]
        return
    gather = edit.producer(node.inputs[0], "Gather")
    if gather is None or not edit.is_stored(gather.inputs[0]):
        return
    if all(edit.scalar(name) for name in node.inputs[1:] if name):
        table = f"{node.outputs[0]}/table"
        edit.made[node.outputs[0]] = (
            _node(
                "DequantizeLinear",
                (gather.inputs[0], *node.inputs[1:]),
                table,
                dict(node.attributes),
            ),
            _node("Gather", (table, gather.inputs[1]), node.outputs[0], dict(gather.attributes)),
        )


def _integer_product(node: Node, edit: Edit) -> None:
    """MatMulInteger of a dynamically quantised x, cast and scaled: x @ dequantised weight."""
    source = edit.producer(node.inputs[0], "DynamicQuantizeLinear")
    cast = edit.only_reader(node.outputs[0], "Cast")
    scaled = None if cast is None else edit.only_reader(cast.outputs[0], "Mul")
    if source is None or cast is None or scaled is None or not edit.is_stored(node.inputs[1]):
        return
    if node.inputs[2:3] != source.outputs[2:3]:
        return
    other = next((name for name in scaled.inputs if name != cast.outputs[0]), "")
    factors = edit.producer(other, "Mul")
    if factors is None or source.outputs[1] not in factors.inputs:
        return
    scale = next(name for name in factors.inputs if name != source.outputs[1])
    zero = node.inputs[3] if len(node.inputs) > 3 else ""
    edit.made[scaled.outputs[0]] = _product(
        source.inputs[0], node.inputs[1], scale, zero, scaled.outputs[0]
    )


def _dynamic_product(node: Node, edit: Edit) -> None:
    """DynamicQuantizeMatMul: x, codes, scale, zero point, bias."""
    if edit.is_stored(node.inputs[1]):
        zero, bias = (_input(node, i) for i in (3, 4))
        edit.made[node.outputs[0]] = _biased(node, node.inputs[0], node.inputs[2], zero, bias)


def _float_product(node: Node, edit: Edit) -> None:
    """MatMulIntegerToFloat: quantised x, codes, their scales, their zero points, bias."""
    source = edit.producer(node.inputs[0], "DynamicQuantizeLinear", "QuantizeLinear")
    if source is None or not edit.is_stored(node.inputs[1]):
        return
    dynamic = source.op_type == "DynamicQuantizeLinear"
    scale = source.outputs[1] if dynamic else source.inputs[1]
    if node.inputs[2] == scale:
        zero, bias = (_input(node, i) for i in (5, 6))
        edit.made[node.outputs[0]] = _biased(node, source.inputs[0], node.inputs[3], zero, bias)


def _input(node: Node, index: int) -> str:
    return node.inputs[index] if index < len(node.inputs) else ""


def _biased(node: Node, x: str, scale: str, zero: str, bias: str) -> tuple[Node, ...]:
    output = node.outputs[0]
    if not bias:
        return _product(x, node.inputs[1], scale, zero, output)
    product = _product(x, node.inputs[1], scale, zero, f"{output}/product")
    return (*product, _node("Add", (f"{output}/product", bias), output))


def _product(x: str, codes: str, scale: str, zero: str, output: str) -> tuple[Node, ...]:
    weight = f"{output}/weight"
    inputs = (codes, scale, zero) if zero else (codes, scale)
    return (
        _node("DequantizeLinear", inputs, weight, {"axis": 1}),
        _node("MatMul", (x, weight), output),
    )


def _node(
    op_type: str, inputs: Sequence[str], output: str, attributes: Mapping[str, object] | None = None
) -> Node:
    return Node(output, "", op_type, tuple(inputs), (output,), dict(attributes or {}))  # type: ignore[arg-type]


REWRITES: Mapping[str, Callable[[Node, Edit], None]] = {
    "DequantizeLinear": _round_trip,
    "DynamicQuantizeMatMul": _dynamic_product,
    "MatMulInteger": _integer_product,
    "MatMulIntegerToFloat": _float_product,
}


def _applied(model: OnnxModel, edit: Edit) -> OnnxModel:
    """The model with the edits, its nodes that nothing needs any more left out."""
    nodes: list[Node] = []
    for node in model.nodes:
        made = next((edit.made[name] for name in node.outputs if name in edit.made), None)
        nodes += made if made is not None else (node,)
    read = [
        replace(node, inputs=tuple(_name(each, edit) for each in node.inputs)) for node in nodes
    ]
    kept = _needed(read, [each.name for each in model.outputs])
    kept = _with_outputs(kept, model, edit)
    proto = onnx.ModelProto()
    proto.CopyFrom(model.proto)
    protos = {tuple(each.output): each for each in model.proto.graph.node}
    del proto.graph.node[:]
    proto.graph.node.extend(_proto(node, protos) for node in kept)
    return replace(model, nodes=tuple(kept), proto=proto)


def _name(name: str, edit: Edit) -> str:
    while name in edit.renamed:
        name = edit.renamed[name]
    return name


def _needed(nodes: Sequence[Node], outputs: Sequence[str]) -> list[Node]:
    wanted, kept = set(outputs), list[Node]()
    for node in reversed(nodes):
        if wanted.intersection(node.outputs) or _has_graph(node):
            kept.append(node)
            wanted.update(node.inputs)
    return kept[::-1]


def _has_graph(node: Node) -> bool:
    return any(isinstance(value, onnx.GraphProto) for value in node.attributes.values())


def _with_outputs(nodes: list[Node], model: OnnxModel, edit: Edit) -> list[Node]:
    """Graph outputs keep their names."""
    ends = [each.name for each in model.outputs if each.name in edit.renamed]
    kept = [node for node in nodes if not set(ends).intersection(node.outputs)]
    return kept + [_node("Identity", (_name(name, edit),), name) for name in ends]


def _proto(node: Node, protos: Mapping[tuple[str, ...], onnx.NodeProto]) -> onnx.NodeProto:
    """The node's own message with its inputs read anew; a new one for a new node."""
    found = protos.get(node.outputs)
    if found is not None and found.op_type == node.op_type:
        proto = onnx.NodeProto()
        proto.CopyFrom(found)
        del proto.input[:]
        proto.input.extend(node.inputs)
        return proto
    return onnx.helper.make_node(
        node.op_type,
        list(node.inputs),
        list(node.outputs),
        node.name,
        **dict(node.attributes),  # type: ignore[arg-type]
    )
