"""Tensors of a serialized ONNX model that lie in a file: added, or found, without a protobuf library.

Concatenated protobuf messages are merged, so the model's bytes stay as they are and a second ModelProto follows,
whose graph has nothing but the tensors (https://protobuf.dev/programming-guides/encoding/#last-one-wins).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from hearth.schemas.graph import StoredTensor

# Field numbers of onnx.proto3, and the value of DataLocation.EXTERNAL.
MODEL_GRAPH, GRAPH_INITIALIZER = 7, 5
DIMS, DATA_TYPE, NAME, EXTERNAL_DATA, DATA_LOCATION = 1, 2, 8, 13, 14
KEY, VALUE = 1, 2
EXTERNAL = 1


def with_tensors(model: bytes, tensors: Iterable[StoredTensor], file: str, start: int) -> bytes:
    """The model with external tensors; `start` is where their section begins in `file`."""
    added = b"".join(_field(GRAPH_INITIALIZER, _tensor(each, file, start)) for each in tensors)
    return model + (_field(MODEL_GRAPH, added) if added else b"")


def _tensor(tensor: StoredTensor, file: str, start: int) -> bytes:
    places = {"location": file, "offset": str(start + tensor.offset), "length": str(tensor.nbytes)}
    return b"".join(
        [
            *(_number(DIMS, dim) for dim in tensor.shape),
            _number(DATA_TYPE, tensor.dtype),
            _field(NAME, tensor.name.encode()),
            *(_field(EXTERNAL_DATA, _entry(key, value)) for key, value in places.items()),
            _number(DATA_LOCATION, EXTERNAL),
        ]
    )


def _entry(key: str, value: str) -> bytes:
    return _field(KEY, key.encode()) + _field(VALUE, value.encode())


def _field(number: int, content: bytes) -> bytes:
    return encode_varint(number << 3 | 2) + encode_varint(len(content)) + content


def _number(number: int, value: int) -> bytes:
    return encode_varint(number << 3) + encode_varint(value)


def encode_varint(value: int) -> bytes:
    """A number of a protobuf message (https://protobuf.dev/programming-guides/encoding)."""
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


# The messages that lead to tensors, by the number of the field.
TENSOR = "tensor"
CHILDREN: Mapping[str, Mapping[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "graph": {1: "node", 5: TENSOR, 15: "sparse"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {5: TENSOR, 6: "graph", 10: TENSOR, 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: TENSOR, 2: TENSOR},
    TENSOR: {},
}
DEEPEST = 100  # protobuf's own limit
FIXED = {1: 8, 5: 4}


def names_files(model: bytes) -> bool:
    """Whether a tensor of the model says that it lies in a file. Bytes that are no model say so, too."""
    if b"location" not in model:  # the key that such a tensor needs
        return False
    try:
        return _names_files(model, "model", 0, len(model), DEEPEST)
    except (IndexError, ValueError):
        return True


def _names_files(data: bytes, message: str, at: int, stop: int, depth: int) -> bool:
    if depth < 0:
        raise ValueError("nested too deep")
    children = CHILDREN[message]
    while at < stop:
        key, at = _read_varint(data, at)
        start = at
        if key & 7 == 0:
            _, at = _read_varint(data, at)
        elif key & 7 == 2:
            length, start = _read_varint(data, at)
            at = start + length
        else:
            at += FIXED.get(key & 7, stop)
        if at > stop:
            raise ValueError("a field ends outside its message")
        child = children.get(key >> 3)
        if message == TENSOR and key >> 3 == EXTERNAL_DATA:
            return True
        if child is not None and _names_files(data, child, start, at, depth - 1):
            return True
    return False


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError("a broken number")
