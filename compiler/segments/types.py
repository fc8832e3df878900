"""ONNX's types in onnxruntime's words, as ports have them."""

from __future__ import annotations

import onnx

from hearth.compiler.frontend.onnx.sessions import ELEMENTS

NAMES = {number: name for name, number in ELEMENTS.items()}
Shape = tuple[int | str, ...] | None


def type_name(proto: onnx.TypeProto) -> tuple[str, Shape]:
    """("tensor(float)", (1, "n")), the shape None where the rank is unknown or it is no tensor."""
    match proto.WhichOneof("value"):
        case "tensor_type":
            kind = proto.tensor_type
            shape = tuple(map(_dim, kind.shape.dim)) if kind.HasField("shape") else None
            return f"tensor({NAMES.get(kind.elem_type, 'undefined')})", shape
        case "sequence_type":
            return f"seq({type_name(proto.sequence_type.elem_type)[0]})", None
        case "optional_type":
            return f"optional({type_name(proto.optional_type.elem_type)[0]})", None
        case "map_type":
            key = NAMES.get(proto.map_type.key_type, "undefined")
            return f"map({key},{type_name(proto.map_type.value_type)[0]})", None
    return "undefined", None


def _dim(dim: onnx.TensorShapeProto.Dimension) -> int | str:
    if dim.HasField("dim_value") and dim.dim_value >= 0:
        return int(dim.dim_value)
    return str(dim.dim_param)
