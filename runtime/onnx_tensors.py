"""Adds tensors that lie in a file to a serialized ONNX model, without a protobuf library.

Concatenated protobuf messages are merged, so the model's bytes stay as they are and a second ModelProto follows,
whose graph has nothing but the tensors (https://protobuf.dev/programming-guides/encoding/#last-one-wins).
"""

from __future__ import annotations

from collections.abc import Iterable

from hearth.schemas.graph import StoredTensor

# Field numbers of onnx.proto3, and the value of DataLocation.EXTERNAL.
MODEL_GRAPH, GRAPH_INITIALIZER = 7, 5
DIMS, DATA_TYPE, NAME, EXTERNAL_DATA, DATA_LOCATION = 1, 2, 8, 13, 14
KEY, VALUE = 1, 2
EXTERNAL = 1


def with_tensors(
    model: bytes, tensors: Iterable[StoredTensor], file: str, start: int
) -> bytes:
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
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _number(number: int, value: int) -> bytes:
    return _varint(number << 3) + _varint(value)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
