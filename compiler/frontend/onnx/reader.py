"""read_model: an ONNX file, checked and in order, its tensors left where they lie."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import onnx
from onnx import AttributeProto, TensorProto

from hearth.compiler.frontend.onnx.files import find_model_file
from hearth.compiler.frontend.onnx.find import find_graph
from hearth.compiler.frontend.onnx.functions import inline, subgraphs, walk
from hearth.compiler.frontend.onnx.initializers import (
    ExternalFiles,
    StoredTensor,
    open_initializer,
    tensor_array,
)
from hearth.compiler.frontend.onnx.model import Attribute, Initializer, Node, OnnxModel, ValueInfo
from hearth.compiler.frontend.onnx.operators import (
    check_operators,
    check_versions,
    standard_domain,
)
from hearth.compiler.frontend.onnx.order import captures, duplicate, sort_nodes
from hearth.compiler.frontend.onnx.wire import read_structure
from hearth.schemas.errors import CheckpointError

# What onnxruntime reads. IR 14 adds types of 6 bits, which no operator takes and check_tensor refuses.
ENGINE_IR = 13


def read_model(path: Path) -> OnnxModel:
    """The model at `path`, or in it where it is a folder (find.py).

    Model-local functions are inlined, `Constant` nodes have become initializers, nodes are in an order in which
    each reads what earlier ones made, inputs with a stored value are no inputs any more. Raises CheckpointError
    with a code onnx.*; no large tensor is read.
    """
    file = find_model_file(find_graph(path))
    proto = read_structure(file)
    if not proto.HasField("graph"):
        raise CheckpointError(
            "onnx.malformed", "no graph", expected="an ONNX model", where=file.where
        )
    check_versions(proto, file.where)
    proto.ir_version = min(proto.ir_version, ENGINE_IR)
    proto = inline(proto, file.where)
    check_operators(proto, file.where)
    files = ExternalFiles(file, {})
    lift_constants(proto.graph)
    initializers = _initializers(proto.graph, files)
    _check_inner_tensors(proto.graph, files)
    _drop_default_inputs(proto.graph, initializers)
    sort_nodes(proto.graph, initializers, file.where)
    return OnnxModel(
        path=file.path,
        proto=proto,
        inputs=tuple(map(value_info, proto.graph.input)),
        outputs=tuple(map(value_info, proto.graph.output)),
        nodes=tuple(map(node_of, proto.graph.node)),
        initializers=initializers,
        opsets={standard_domain(each.domain): each.version for each in proto.opset_import},
        files=(file.path, *(each.path for each in files.found.values())),
    )


# What a Constant node may hold, by the name of its attribute: the type, and the field of the values.
SCALARS = {
    "value_float": (TensorProto.FLOAT, "f"),
    "value_int": (TensorProto.INT64, "i"),
    "value_string": (TensorProto.STRING, "s"),
}
LISTS = {
    "value_floats": (TensorProto.FLOAT, "floats"),
    "value_ints": (TensorProto.INT64, "ints"),
    "value_strings": (TensorProto.STRING, "strings"),
}


def lift_constants(graph: onnx.GraphProto) -> None:
    """Constant nodes become initializers (of the main graph; subgraphs keep theirs)."""
    kept = []
    for node in graph.node:
        tensor = _constant(node)
        if tensor is None:
            kept.append(node)
        else:
            tensor.name = node.output[0]
            graph.initializer.append(tensor)
    if len(kept) < len(graph.node):
        nodes = [onnx.NodeProto.FromString(node.SerializeToString()) for node in kept]
        del graph.node[:]
        graph.node.extend(nodes)


def _constant(node: onnx.NodeProto) -> TensorProto | None:
    if (
        node.op_type != "Constant"
        or standard_domain(node.domain)
        or len(node.attribute) != 1
        or len(node.output) != 1
    ):
        return None
    attribute = node.attribute[0]
    if attribute.name == "value" and attribute.HasField("t"):
        found: TensorProto = attribute.t
        return found
    if attribute.name in SCALARS:
        dtype, field = SCALARS[attribute.name]
        return onnx.helper.make_tensor("", dtype, (), [getattr(attribute, field)])
    if attribute.name in LISTS:
        dtype, field = LISTS[attribute.name]
        values = getattr(attribute, field)
        return onnx.helper.make_tensor("", dtype, (len(values),), values)
    return None


def _initializers(graph: onnx.GraphProto, files: ExternalFiles) -> dict[str, Initializer]:
    if graph.sparse_initializer:
        raise _sparse(graph.sparse_initializer[0].values.name, files.where)
    found: dict[str, Initializer] = {}
    for proto in graph.initializer:
        if not proto.name or proto.name in found:
            raise duplicate("tensor", proto.name, files.where)
        found[proto.name] = open_initializer(proto, proto.name, files)
    return found


MAX_EMBEDDED = 64 << 20


def _check_inner_tensors(graph: onnx.GraphProto, files: ExternalFiles) -> None:
    """Tensors of attributes and subgraphs are checked, and read back where they were left out: those are rare."""
    total = 0
    for node in walk(graph.node):
        for tensor in _tensors(node, files.where):
            held = open_initializer(tensor, tensor.name or node.op_type, files)
            if isinstance(held, StoredTensor):
                total += held.nbytes
                _embed(tensor, held, total, files.where)


def _tensors(node: onnx.NodeProto, where: str) -> Iterator[TensorProto]:
    for attribute in node.attribute:
        if attribute.HasField("sparse_tensor") or attribute.sparse_tensors:
            raise _sparse(node.op_type, where)
        if attribute.HasField("t") or attribute.type == AttributeProto.TENSOR:
            yield attribute.t  # one that is missing has no type, which no tensor may have
        yield from attribute.tensors
    for graph in subgraphs(node):
        if graph.sparse_initializer:
            raise _sparse(graph.name, where)
        yield from graph.initializer


def _embed(tensor: TensorProto, held: StoredTensor, total: int, where: str) -> None:
    if total > MAX_EMBEDDED:
        raise CheckpointError(
            "onnx.too_large",
            f"tensors of more than {MAX_EMBEDDED} bytes inside nodes",
            expected="large tensors among the graph's initializers",
            where=where,
        )
    raw = held.raw().tobytes()
    del tensor.external_data[:]
    tensor.ClearField("data_location")
    tensor.raw_data = raw


def _sparse(name: str, where: str) -> CheckpointError:
    return CheckpointError(
        "onnx.sparse_tensor",
        f"the sparse tensor {name!r}",
        expected="dense tensors",
        where=where,
        remedy="save the model with dense weights",
    )


def _drop_default_inputs(graph: onnx.GraphProto, initializers: Mapping[str, Initializer]) -> None:
    kept = [each for each in graph.input if each.name not in initializers]
    if len(kept) < len(graph.input):
        inputs = [onnx.ValueInfoProto.FromString(each.SerializeToString()) for each in kept]
        del graph.input[:]
        graph.input.extend(inputs)


def value_info(proto: onnx.ValueInfoProto) -> ValueInfo:
    """A graph input or output as the frontend sees it."""
    if proto.type.WhichOneof("value") != "tensor_type":
        return ValueInfo(proto.name, 0, None)
    kind = proto.type.tensor_type
    shape = tuple(map(_dim, kind.shape.dim)) if kind.HasField("shape") else None
    return ValueInfo(proto.name, kind.elem_type, shape)


def _dim(dim: onnx.TensorShapeProto.Dimension) -> int | str | None:
    if dim.HasField("dim_value"):
        return int(dim.dim_value) if dim.dim_value >= 0 else None
    return dim.dim_param or None


def node_of(proto: onnx.NodeProto) -> Node:
    return Node(
        name=proto.name,
        domain=standard_domain(proto.domain),
        op_type=proto.op_type,
        inputs=tuple(proto.input),
        outputs=tuple(proto.output),
        attributes={each.name: _attribute(each) for each in proto.attribute},
        captures=captures(proto),
    )


def _attribute(proto: AttributeProto) -> Attribute:
    match proto.type:
        case AttributeProto.TENSOR:
            return tensor_array(proto.t)
        case AttributeProto.GRAPH:
            return proto.g
        case AttributeProto.STRING:
            return _text(proto.s)
        case AttributeProto.STRINGS:
            return tuple(map(_text, proto.strings))
        case AttributeProto.INT:
            return int(proto.i)
        case AttributeProto.FLOAT:
            return float(proto.f)
        case AttributeProto.INTS:
            return tuple(proto.ints)
        case AttributeProto.FLOATS:
            return tuple(proto.floats)
        case AttributeProto.TENSORS:
            return tuple(map(tensor_array, proto.tensors))
        case AttributeProto.GRAPHS:
            return tuple(proto.graphs)
    return ()


def _text(value: bytes) -> str | bytes:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value
