"""ModelProto as bytes: its structure without its large tensors, whose places in the file are kept instead.

A protobuf message is walked field by field (https://protobuf.dev/programming-guides/encoding) and written
anew without documentation and without long tensor data, so that a model of any size is parsed in the memory
of its graph alone, and a hostile one is refused before any parser allocates for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import onnx

from hearth.compiler.frontend.onnx.files import ModelFile
from hearth.runtime.graphs.onnx_tensors import encode_varint
from hearth.schemas.errors import CheckpointError

MAX_STRUCTURE = 48 << 20  # bytes of everything but large tensors
MAX_FIELDS = 1_000_000
MAX_NODES = 50_000
MAX_DEPTH = 100  # of messages, protobuf's own limit
LEFT_OUT = 4096  # tensor data of at least so many bytes stay in the file
WINDOW = 1 << 18
LONGEST_VARINT = 10

VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5
# Documentation and training: no part of what the model computes.
DROPPED = {
    "doc_string", "metadata_props", "training_info", "quantization_annotation",
    "device_configurations", "configuration",
}  # fmt: skip
DATA = {
    "raw_data",
    "float_data",
    "double_data",
}  # fields that hold a tensor's values as they lie in memory
TENSOR, NODE = "onnx.TensorProto", "onnx.NodeProto"


@dataclass(frozen=True)
class Member:
    """What to do with a field: leave it out, walk into it, or treat it as tensor data."""

    name: str
    drop: bool
    child: str | None
    data: bool


@cache
def _members(message: str) -> Mapping[int, Member]:
    descriptor = _descriptor(message)
    return {
        number: Member(
            each.name,
            each.name in DROPPED,
            each.message_type.full_name if each.message_type else None,
            message == TENSOR and each.name in DATA,
        )
        for number, each in descriptor.fields_by_number.items()
    }


def _descriptor(message: str) -> Any:
    return onnx.ModelProto.DESCRIPTOR.file.message_types_by_name.get(
        message.removeprefix("onnx.")
    ) or _nested(message)


def _nested(message: str) -> Any:
    found = onnx.ModelProto.DESCRIPTOR.file
    outer, *inner = message.removeprefix("onnx.").split(".")
    descriptor = found.message_types_by_name[outer]
    for name in inner:
        descriptor = descriptor.nested_types_by_name[name]
    return descriptor


@dataclass
class Walk:
    """One pass over a file: a window of its bytes, and what was counted so far."""

    file: ModelFile
    fields: int = 0
    nodes: int = 0
    kept: int = 0
    _window: bytearray = field(default_factory=bytearray)
    _base: int = 0

    def structure(self) -> bytes:
        """The model without large tensor data: those became references to places of this same file."""
        return bytes(self._message("onnx.ModelProto", 0, self.file.size, 1))

    def _message(self, message: str, start: int, stop: int, depth: int) -> bytearray:
        if depth > MAX_DEPTH:
            raise self.refuse(f"messages nested more than {MAX_DEPTH} deep at byte {start}")
        if message == NODE:
            self._count_node()
        members, out, data, at = _members(message), bytearray(), [], start
        while at < stop:
            key, body = self._varint(at, stop)
            body, end = self._extent(key & 7, body, stop)
            member = members.get(key >> 3)
            if member is not None and not member.drop:
                if member.data and key & 7 == LENGTH and end - body >= LEFT_OUT:
                    data.append((body, end))
                elif member.child and key & 7 == LENGTH:
                    content = self._message(member.child, body, end, depth + 1)
                    out += encode_varint(key) + encode_varint(len(content)) + content
                else:
                    out += self._bytes(at, end)
            at = end
        if len(data) > 1:
            raise self.refuse(f"a tensor whose data come in pieces at byte {data[1][0]}")
        for place in data:
            out += self._reference(*place)
        return out

    def _reference(self, start: int, stop: int) -> bytes:
        """The fields that make a tensor external: its data are bytes start..stop of this file."""
        reference = onnx.TensorProto(data_location=onnx.TensorProto.EXTERNAL)
        entries = {"location": self.file.path.name, "offset": start, "length": stop - start}
        for key, value in entries.items():
            reference.external_data.add(key=key, value=str(value))
        content: bytes = reference.SerializeToString()
        self._keep(len(content))
        return content

    def _extent(self, wire: int, body: int, stop: int) -> tuple[int, int]:
        """Where the content of a field starts and ends; `body` is the byte after its key."""
        self.fields += 1
        if self.fields > MAX_FIELDS:
            raise self.refuse(f"more than {MAX_FIELDS} fields", "onnx.too_large")
        if wire == VARINT:
            return body, self._varint(body, stop)[1]
        if wire == LENGTH:
            length, body = self._varint(body, stop)
        else:
            length = {FIXED64: 8, FIXED32: 4}.get(wire, -1)
        if length < 0 or body + length > stop:
            raise self.refuse(f"a field that ends outside its message at byte {body}")
        return body, body + length

    def _varint(self, at: int, stop: int) -> tuple[int, int]:
        index = at - self._base
        if not 0 <= index <= len(self._window) - LONGEST_VARINT:
            index = self._seek(at)
        if at < stop and self._window[index] < 0x80:
            return self._window[index], at + 1
        value = shift = 0
        for place in range(index, min(index + LONGEST_VARINT, index + stop - at)):
            byte = self._window[place]
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value, at + place + 1 - index
            shift += 7
        raise self.refuse(f"a broken number at byte {at}")

    def _seek(self, at: int) -> int:
        """Make the window start at a byte of the file; where that is in the window."""
        self._base = at
        self._window = self.file.read(at, min(WINDOW, self.file.size - at))
        return 0

    def _bytes(self, start: int, stop: int) -> bytearray:
        self._keep(stop - start)
        if stop - start > WINDOW // 2:
            return self.file.read(start, stop - start)
        if not self._base <= start <= stop <= self._base + len(self._window):
            self._seek(start)
        return self._window[start - self._base : stop - self._base]

    def _keep(self, nbytes: int) -> None:
        self.kept += nbytes
        if self.kept > MAX_STRUCTURE:
            raise self.refuse(f"a graph of more than {MAX_STRUCTURE >> 20} MiB", "onnx.too_large")

    def _count_node(self) -> None:
        self.nodes += 1
        if self.nodes > MAX_NODES:
            raise self.refuse(f"more than {MAX_NODES} nodes", "onnx.too_large")

    def refuse(self, found: str, code: str = "onnx.malformed") -> CheckpointError:
        where, remedy = (
            self.file.where,
            "export the model again, with weights as raw or external data",
        )
        if code == "onnx.too_large":
            return CheckpointError("onnx.too_large", found, where=where, remedy=remedy)
        return CheckpointError(
            "onnx.malformed", found, expected="an ONNX model", where=where, remedy=remedy
        )


def read_structure(file: ModelFile) -> onnx.ModelProto:
    """The parsed model, large tensors left out."""
    walk = Walk(file)
    content = walk.structure()
    try:
        proto: onnx.ModelProto = onnx.ModelProto.FromString(content)
    except Exception:  # protobuf's DecodeError is not a public name of onnx
        raise walk.refuse("bytes that are no ONNX model") from None
    if _has_odd_text(proto):
        raise walk.refuse("a name that is not UTF-8")
    return proto


def _has_odd_text(message: Any) -> bool:
    """Whether a text is no text: protobuf gives its bytes then, and does not take them back."""
    for description, value in message.ListFields():
        single = isinstance(value, str | bytes) or hasattr(value, "ListFields")
        values = (value,) if single else value
        if description.message_type is not None:
            found = any(map(_has_odd_text, values))
        else:
            is_text = description.type == description.TYPE_STRING
            found = is_text and any(isinstance(text, bytes) for text in values)
        if found:
            return True
    return False
