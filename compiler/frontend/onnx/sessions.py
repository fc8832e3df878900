"""The source model, or the part that makes some of its values, run in onnxruntime as it is."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import onnx
from onnx import TensorProto

from hearth.compiler.frontend.onnx.model import Node, OnnxModel
from hearth.runtime.graphs.onnx_engine import OnnxEngine, open_engine
from hearth.schemas.errors import ArchiveError, CheckpointError


def open_source(
    model: OnnxModel,
    outputs: Sequence[str] | None = None,
    given: Mapping[str, int] | None = None,
    *,
    threads: int = 1,
    optimise: bool = True,
) -> OnnxEngine:
    """Runs the model, or what `outputs` need of it. Large tensors are mapped from the model's files.

    `given` are values to feed besides the graph's inputs, with their ONNX types: nodes before them do not run.
    """
    proto = cut(model, outputs, given or {})
    try:
        return open_engine(
            proto.SerializeToString(), model.path.parent, threads=threads, optimise=optimise
        )
    except ArchiveError as error:
        raise _refused(error, model) from None


def _refused(error: ArchiveError, model: OnnxModel) -> CheckpointError:
    return CheckpointError(
        "onnx.engine",
        error.found,
        expected="a model that onnxruntime runs",
        where=str(model.path),
        remedy="update onnxruntime, or export the model again",
    )


def cut(
    model: OnnxModel, outputs: Sequence[str] | None, given: Mapping[str, int]
) -> onnx.ModelProto:
    """The nodes, tensors and inputs that `outputs` need, as a model of its own (None: all outputs, all inputs)."""
    names = [each.name for each in model.outputs] if outputs is None else outputs
    indices = needed(model, names, given)
    read = {name for index in indices for name in reads(model.nodes[index])} | set(names)
    whole = model.proto.graph
    kept = read if outputs is not None or given else {each.name for each in model.inputs}
    inputs = [each for each in whole.input if each.name in kept - given.keys()]
    inputs += [
        onnx.helper.make_tensor_value_info(name, dtype, None)
        for name, dtype in given.items()
        if name in read
    ]
    known = {each.name: each for each in whole.output}
    made = [known.get(name, onnx.ValueInfoProto(name=name)) for name in names]
    return extract(model, indices, inputs, made, read - given.keys())


def extract(
    model: OnnxModel,
    indices: Sequence[int],
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[onnx.ValueInfoProto],
    tensors: Collection[str],
) -> onnx.ModelProto:
    """Some nodes as a model of their own; `tensors` names the values that may be initializers."""
    whole = model.proto
    part = onnx.ModelProto(ir_version=whole.ir_version)
    part.opset_import.extend(whole.opset_import)
    part.functions.extend(whole.functions)
    part.graph.name = whole.graph.name or "part"
    part.graph.node.extend(whole.graph.node[index] for index in indices)
    part.graph.initializer.extend(each for each in whole.graph.initializer if each.name in tensors)
    part.graph.input.extend(inputs)
    part.graph.output.extend(outputs)
    return part


def needed(model: OnnxModel, outputs: Sequence[str], given: Mapping[str, int]) -> list[int]:
    """The numbers of the nodes that `outputs` need, nodes behind `given` left out."""
    wanted, found = set(outputs) - given.keys(), []
    for index in range(len(model.nodes) - 1, -1, -1):
        node = model.nodes[index]
        if wanted.intersection(node.outputs):
            found.append(index)
            wanted.update(name for name in reads(node) if name not in given)
    return found[::-1]


def reads(node: Node) -> tuple[str, ...]:
    """All values a node needs, those of its subgraphs too."""
    return tuple(dict.fromkeys(filter(None, (*node.inputs, *node.captures))))


def value_types(model: OnnxModel) -> Mapping[str, onnx.ValueInfoProto]:
    """The type and shape of every value, as onnxruntime infers them without reading a large tensor."""
    names = [name for node in model.nodes for name in node.outputs if name]
    proto = cut(model, names, {})
    large = {
        each.name for each in proto.graph.initializer if each.data_location == TensorProto.EXTERNAL
    }
    kept = [each for each in proto.graph.initializer if each.name not in large]
    inputs = [model.initializers[name] for name in sorted(large)]
    del proto.graph.initializer[:]
    proto.graph.initializer.extend(kept)
    proto.graph.input.extend(
        onnx.helper.make_tensor_value_info(each.name, each.dtype, each.shape) for each in inputs
    )
    return _inferred(proto, model)


def _inferred(proto: onnx.ModelProto, model: OnnxModel) -> Mapping[str, onnx.ValueInfoProto]:
    try:
        engine = open_engine(proto.SerializeToString(), optimise=False, threads=1)
    except ArchiveError as error:
        raise _refused(error, model) from None
    return {
        each.name: onnx.helper.make_value_info(each.name, type_proto(each.type, each.shape))
        for each in engine.session.get_outputs()
    }


# onnxruntime's names of the element types.
ELEMENTS: Mapping[str, int] = {
    "float": TensorProto.FLOAT, "double": TensorProto.DOUBLE, "float16": TensorProto.FLOAT16,
    "bfloat16": TensorProto.BFLOAT16, "string": TensorProto.STRING, "bool": TensorProto.BOOL,
    "int8": TensorProto.INT8, "int16": TensorProto.INT16, "int32": TensorProto.INT32,
    "int64": TensorProto.INT64, "uint8": TensorProto.UINT8, "uint16": TensorProto.UINT16,
    "uint32": TensorProto.UINT32, "uint64": TensorProto.UINT64,
    "complex64": TensorProto.COMPLEX64, "complex128": TensorProto.COMPLEX128,
    "int4": TensorProto.INT4, "uint4": TensorProto.UINT4,
    "int2": TensorProto.INT2, "uint2": TensorProto.UINT2, "float4e2m1": TensorProto.FLOAT4E2M1,
    "float8e4m3fn": TensorProto.FLOAT8E4M3FN, "float8e4m3fnuz": TensorProto.FLOAT8E4M3FNUZ,
    "float8e5m2": TensorProto.FLOAT8E5M2, "float8e5m2fnuz": TensorProto.FLOAT8E5M2FNUZ,
    "float8e8m0": TensorProto.FLOAT8E8M0,
}  # fmt: skip


def type_proto(text: str, shape: Sequence[int | str | None] | None) -> onnx.TypeProto:
    """onnxruntime's name of a type ("seq(tensor(float))") as ONNX's."""
    kind, _, inner = text.partition("(")
    inner = inner.removesuffix(")")
    match kind:
        case "tensor":
            return onnx.helper.make_tensor_type_proto(ELEMENTS[inner], shape)
        case "seq":
            return onnx.helper.make_sequence_type_proto(type_proto(inner, None))
        case "optional":
            return onnx.helper.make_optional_type_proto(type_proto(inner, None))
        case "map":
            key, _, value = inner.partition(",")
            return onnx.helper.make_map_type_proto(ELEMENTS[key], type_proto(value, None))
    raise AssertionError(text)
