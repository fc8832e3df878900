"""Tensors of an ONNX model, read when asked for: small ones from the parsed model, large ones from their file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from hearth.compiler.frontend.onnx.files import ModelFile, find_model_file
from hearth.schemas.errors import CheckpointError

Array = NDArray[Any]
MAX_ELEMENTS = 1 << 40
# numpy dtype of each ONNX element type; the packed ones (two or four to a byte) unpack to these.
DTYPES: Mapping[int, Any] = {
    TensorProto.FLOAT: np.float32, TensorProto.UINT8: np.uint8, TensorProto.INT8: np.int8,
    TensorProto.UINT16: np.uint16, TensorProto.INT16: np.int16, TensorProto.INT32: np.int32,
    TensorProto.INT64: np.int64, TensorProto.STRING: np.object_, TensorProto.BOOL: np.bool_,
    TensorProto.FLOAT16: np.float16, TensorProto.DOUBLE: np.float64,
    TensorProto.UINT32: np.uint32, TensorProto.UINT64: np.uint64,
    TensorProto.COMPLEX64: np.complex64, TensorProto.COMPLEX128: np.complex128,
    TensorProto.BFLOAT16: ml_dtypes.bfloat16,
    TensorProto.FLOAT8E4M3FN: ml_dtypes.float8_e4m3fn,
    TensorProto.FLOAT8E4M3FNUZ: ml_dtypes.float8_e4m3fnuz,
    TensorProto.FLOAT8E5M2: ml_dtypes.float8_e5m2,
    TensorProto.FLOAT8E5M2FNUZ: ml_dtypes.float8_e5m2fnuz,
    TensorProto.FLOAT8E8M0: ml_dtypes.float8_e8m0fnu,
    TensorProto.UINT4: np.uint8, TensorProto.INT4: np.int8,
    TensorProto.UINT2: np.uint8, TensorProto.INT2: np.int8,
    TensorProto.FLOAT4E2M1: ml_dtypes.float4_e2m1fn,
}  # fmt: skip
# Bits of an element where several share a byte.
PACKED: Mapping[int, int] = {
    TensorProto.UINT4: 4, TensorProto.INT4: 4, TensorProto.FLOAT4E2M1: 4,
    TensorProto.UINT2: 2, TensorProto.INT2: 2,
}  # fmt: skip


def element_bits(dtype: int) -> int:
    """Bits one element takes in a file."""
    return PACKED.get(dtype) or 8 * int(np.dtype(DTYPES[dtype]).itemsize)


def stored_nbytes(dtype: int, shape: tuple[int, ...]) -> int:
    """Bytes a tensor takes in a file."""
    return -(-prod(shape) * element_bits(dtype) // 8)


@dataclass(frozen=True, eq=False)
class StoredTensor:
    """A tensor whose bytes lie at `offset` of a file, row after row."""

    name: str
    dtype: int
    shape: tuple[int, ...]
    file: ModelFile
    offset: int

    @property
    def nbytes(self) -> int:
        return stored_nbytes(self.dtype, self.shape)

    def array(self) -> Array:
        """All of it, in fresh memory."""
        if self.dtype not in PACKED:
            return self._read(0, prod(self.shape)).reshape(self.shape)
        raw = self.file.read(self.offset, self.nbytes)
        return _unpack(np.frombuffer(raw, np.uint8), self.dtype, self.shape)

    def rows(self, start: int, stop: int) -> Array:
        """Rows start..stop of the first axis."""
        width = prod(self.shape[1:])
        if self.dtype in PACKED and start * width * PACKED[self.dtype] % 8:
            return self.array()[start:stop]
        shape = (stop - start, *self.shape[1:])
        if self.dtype in PACKED:
            bits = PACKED[self.dtype]
            raw = self.file.read(
                self.offset + start * width * bits // 8, stored_nbytes(self.dtype, shape)
            )
            return _unpack(np.frombuffer(raw, np.uint8), self.dtype, shape)
        return self._read(start * width, prod(shape)).reshape(shape)

    def raw(self) -> NDArray[np.uint8]:
        """The bytes as they are stored."""
        return np.frombuffer(self.file.read(self.offset, self.nbytes), np.uint8)

    def pieces(self, nbytes: int) -> Iterator[bytearray]:
        """The bytes as they are stored, so many at a time."""
        for start in range(0, self.nbytes, nbytes):
            yield self.file.read(self.offset + start, min(nbytes, self.nbytes - start))

    def _read(self, first: int, count: int) -> Array:
        kind = np.dtype(DTYPES[self.dtype])
        raw = self.file.read(self.offset + first * kind.itemsize, count * kind.itemsize)
        return np.frombuffer(raw, kind)


@dataclass(frozen=True, eq=False)
class HeldTensor:
    """A small tensor that lies in the parsed model."""

    name: str
    proto: TensorProto

    @property
    def dtype(self) -> int:
        return int(self.proto.data_type)

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.proto.dims)

    @property
    def nbytes(self) -> int:
        if self.dtype == TensorProto.STRING:
            return sum(map(len, self.proto.string_data))
        return stored_nbytes(self.dtype, self.shape)

    def array(self) -> Array:
        """All of it."""
        return tensor_array(self.proto)

    def rows(self, start: int, stop: int) -> Array:
        """Rows start..stop of the first axis."""
        return self.array()[start:stop]


def tensor_array(proto: TensorProto) -> Array:
    """The values of a checked tensor that holds them itself; strings are str objects."""
    shape, dtype = tuple(proto.dims), proto.data_type
    if dtype == TensorProto.STRING:
        texts = [text.decode("utf-8", "surrogateescape") for text in proto.string_data]
        return np.array(texts, np.object_).reshape(shape)
    if proto.HasField("raw_data"):
        if dtype in PACKED:
            return _unpack(np.frombuffer(proto.raw_data, np.uint8), dtype, shape)
        return np.frombuffer(proto.raw_data, np.dtype(DTYPES[dtype])).reshape(shape).copy()
    return _from_fields(proto).reshape(shape)


def _from_fields(proto: TensorProto) -> Array:
    name, kind = data_field(proto.data_type)
    values = getattr(proto, name)
    flat = np.fromiter(values, kind, len(values))
    match proto.data_type:
        case TensorProto.COMPLEX64 | TensorProto.COMPLEX128:
            return np.asarray(flat.view(DTYPES[proto.data_type]))
        case dtype if dtype in PACKED:
            return _unpack(flat.astype(np.uint8), dtype, tuple(proto.dims)).reshape(-1)
        case dtype if name == "int32_data" and dtype != TensorProto.INT32:
            kind = np.dtype(DTYPES[dtype])
            bits = flat.astype(f"u{kind.itemsize}") if kind.kind != "b" else flat.astype(np.bool_)
            return bits if kind.kind == "b" else np.asarray(bits.view(kind))
        case dtype:
            return np.asarray(flat, DTYPES[dtype])


def data_field(dtype: int) -> tuple[str, Any]:
    """The field that holds values of a type where raw_data does not, and its numpy type."""
    match dtype:
        case TensorProto.FLOAT | TensorProto.COMPLEX64:
            return "float_data", np.float32
        case TensorProto.DOUBLE | TensorProto.COMPLEX128:
            return "double_data", np.float64
        case TensorProto.INT64:
            return "int64_data", np.int64
        case TensorProto.UINT32 | TensorProto.UINT64:
            return "uint64_data", np.uint64
    return "int32_data", np.int32


def _unpack(raw: NDArray[np.uint8], dtype: int, shape: tuple[int, ...]) -> Array:
    """Several elements to a byte, the first in the lowest bits."""
    bits = PACKED[dtype]
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    flat = ((raw[:, None] >> shifts) & ((1 << bits) - 1)).reshape(-1)[: prod(shape)]
    if dtype in (TensorProto.INT4, TensorProto.INT2):
        signed = flat.astype(np.int8)
        flat = np.where(signed >= 1 << (bits - 1), signed - (1 << bits), signed).astype(np.int8)
    return np.asarray(flat.astype(np.uint8).view(DTYPES[dtype])).reshape(shape)


def open_initializer(
    proto: TensorProto, name: str, folder: ExternalFiles
) -> StoredTensor | HeldTensor:
    """A checked tensor of the model, read when asked for."""
    check_tensor(proto, name, folder.where)
    if proto.data_location == TensorProto.EXTERNAL:
        return folder.tensor(proto, name)
    return HeldTensor(name, proto)


def check_tensor(proto: TensorProto, name: str, where: str) -> None:
    """Known type, sane dimensions, and as many values as they say."""
    if proto.data_type not in DTYPES:
        raise CheckpointError(
            "onnx.tensor_type",
            f"tensor {name!r} is of the unknown type {proto.data_type}",
            where=where,
            remedy="this version of Hearth does not read it",
        )
    shape = tuple(proto.dims)
    if any(dim < 0 for dim in shape) or prod(shape) > MAX_ELEMENTS or len(shape) > 64:
        raise CheckpointError(
            "onnx.tensor_shape",
            f"tensor {name!r} has the shape {list(shape)[:8]}",
            expected=f"sizes of at least 0, at most {MAX_ELEMENTS} elements",
            where=where,
        )
    if proto.HasField("segment"):
        raise _size(name, "is stored in segments", "all of it in one piece", where)
    if proto.data_location != TensorProto.EXTERNAL:
        _check_held(proto, name, shape, where)


def _check_held(proto: TensorProto, name: str, shape: tuple[int, ...], where: str) -> None:
    if proto.data_type == TensorProto.STRING:
        found, expected, unit = len(proto.string_data), prod(shape), "strings"
    elif proto.HasField("raw_data"):
        found, expected, unit = len(proto.raw_data), stored_nbytes(proto.data_type, shape), "bytes"
    else:
        field, _ = data_field(proto.data_type)
        found, expected, unit = len(getattr(proto, field)), prod(shape), f"values of {field}"
        if proto.data_type in PACKED:
            expected = stored_nbytes(proto.data_type, shape)
        if proto.data_type in (TensorProto.COMPLEX64, TensorProto.COMPLEX128):
            expected *= 2
    if found != expected:
        raise _size(name, f"{list(shape)} has {found} {unit}", f"{expected}", where)


def _size(name: str, found: str, expected: str, where: str) -> CheckpointError:
    return CheckpointError(
        "onnx.tensor_size",
        f"tensor {name!r} {found}",
        expected=expected,
        where=where,
        remedy="the file is damaged: fetch or export it again",
    )


@dataclass(frozen=True, eq=False)
class ExternalFiles:
    """The model's own file and those beside it that hold tensors."""

    model: ModelFile
    found: dict[str, ModelFile]

    @property
    def where(self) -> str:
        return self.model.where

    def tensor(self, proto: TensorProto, name: str) -> StoredTensor:
        """The tensor that `external_data` describes."""
        entries = self._entries(proto, name)
        file = self._file(entries.get("location", ""), name)
        shape, dtype = tuple(proto.dims), proto.data_type
        if dtype == TensorProto.STRING:
            raise _size(name, "holds strings in another file", "strings in the model", self.where)
        offset, nbytes = self._number(entries, "offset", name), stored_nbytes(dtype, shape)
        length = self._number(entries, "length", name) if "length" in entries else nbytes
        if length != nbytes:
            raise _size(name, f"{list(shape)} has {length} bytes", str(nbytes), self.where)
        if offset + nbytes > file.size:
            raise CheckpointError(
                "onnx.external_bounds",
                f"tensor {name!r} ends at byte {offset + nbytes} of {file.path.name}",
                expected=f"at most {file.size}",
                where=self.where,
                remedy="the file is cut short: fetch it again",
            )
        return StoredTensor(name, dtype, shape, file, offset)

    def _entries(self, proto: TensorProto, name: str) -> Mapping[str, str]:
        entries = {entry.key: entry.value for entry in proto.external_data}
        if len(entries) != len(proto.external_data):
            raise self._place(name, "two values of one key", "one place")
        held = [field for field, value in proto.ListFields() if field.name.endswith("_data")]
        if {field.name for field in held} - {"external_data"}:
            raise self._place(name, "data both in the model and outside it", "one of them")
        return entries

    def _number(self, entries: Mapping[str, str], key: str, name: str) -> int:
        text = entries.get(key, "0")
        if not (text.isascii() and text.isdigit() and len(text) <= 18):
            raise self._place(name, f"{key} {text[:40]!r}", "a number")
        return int(text)

    def _file(self, location: str, name: str) -> ModelFile:
        if location == self.model.path.name:
            return self.model
        if location not in self.found:
            self.found[location] = find_model_file(self._resolve(location, name))
        return self.found[location]

    def _resolve(self, location: str, name: str) -> Path:
        """Inside the folder of the model, or (a cache of links) of the file the model is a link to."""
        folder = self.model.path.parent
        plain = location and "\0" not in location and "\\" not in location
        if not plain or Path(location).is_absolute() or ".." in Path(location).parts:
            raise self._outside(name, location)
        path = folder / location
        try:
            real = path.resolve()
            homes = (folder.resolve(), self.model.path.resolve().parent)
        except (OSError, RuntimeError):
            raise self._outside(name, location) from None
        if not any(real.is_relative_to(home) for home in homes):
            raise self._outside(name, location)
        return path

    def _outside(self, name: str, location: str) -> CheckpointError:
        return CheckpointError(
            "onnx.external_path",
            f"tensor {name!r} is to be read from {location[:200]!r}",
            expected="a file inside the folder of the model",
            where=self.where,
            remedy="do not trust this model, or save it anew with its data beside it",
        )

    def _place(self, name: str, found: str, expected: str) -> CheckpointError:
        return CheckpointError(
            "onnx.external_place",
            f"tensor {name!r} has {found}",
            expected=expected,
            where=self.where,
        )
