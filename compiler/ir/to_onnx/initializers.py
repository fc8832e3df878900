"""Constants as ONNX initializers, streamed block by block into the model or into its data file."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import BinaryIO, Protocol

import numpy as np
import onnx
from numpy.typing import NDArray

from hearth.compiler.ir.tensors import GroupedSource, QuantisedRows, QuantisedSource, Source

F32 = NDArray[np.float32]

BLOCK_ELEMENTS = 1 << 22
ALIGNMENT = 4096  # so that an engine can map the data
INLINE_NBYTES = 1024


class Sink(Protocol):
    """Takes the bytes of one tensor and gives the TensorProto that stands for it."""

    def put(
        self, name: str, dtype: int, shape: tuple[int, ...], chunks: Iterable[bytes]
    ) -> onnx.TensorProto: ...


class InMemory:
    """Bytes inside the model."""

    def put(
        self, name: str, dtype: int, shape: tuple[int, ...], chunks: Iterable[bytes]
    ) -> onnx.TensorProto:
        proto = onnx.TensorProto(name=name, data_type=dtype, dims=shape)
        proto.raw_data = b"".join(chunks)
        return proto


@dataclass
class External:
    """Bytes in a file beside the model, each tensor at an aligned offset; small ones stay inside."""

    file: BinaryIO
    location: str

    def put(
        self, name: str, dtype: int, shape: tuple[int, ...], chunks: Iterable[bytes]
    ) -> onnx.TensorProto:
        if int(np.prod(shape)) * 4 <= INLINE_NBYTES:
            return InMemory().put(name, dtype, shape, chunks)
        self.file.write(bytes(-self.file.tell() % ALIGNMENT))
        offset = self.file.tell()
        for chunk in chunks:
            self.file.write(chunk)
        proto = onnx.TensorProto(name=name, data_type=dtype, dims=shape)
        proto.data_location = onnx.TensorProto.EXTERNAL
        place = {"location": self.location, "offset": offset, "length": self.file.tell() - offset}
        for key, value in place.items():
            proto.external_data.add(key=key, value=str(value))
        return proto


def put_array(sink: Sink, name: str, array: NDArray[np.generic]) -> onnx.TensorProto:
    """A small array held in memory."""
    dtype = onnx.helper.np_dtype_to_tensor_dtype(array.dtype)
    return sink.put(name, dtype, array.shape, [np.ascontiguousarray(array).tobytes()])


def _f32_bytes(rows: F32) -> bytes:
    return np.ascontiguousarray(rows, np.float32).tobytes()


def _f16_bytes(rows: F32) -> bytes:
    return rows.astype(np.float16).tobytes()


def _bf16_bytes(rows: F32) -> bytes:
    bits = np.ascontiguousarray(rows, np.float32).view(np.uint32)
    return (bits >> 16).astype(np.uint16).tobytes()


FORMATS: Mapping[str, tuple[int, Callable[[F32], bytes]]] = {
    "f32": (onnx.TensorProto.FLOAT, _f32_bytes),
    "f16": (onnx.TensorProto.FLOAT16, _f16_bytes),
    "bf16": (onnx.TensorProto.BFLOAT16, _bf16_bytes),
}


def put_float(sink: Sink, name: str, source: Source) -> list[onnx.TensorProto]:
    """In the stored format, which holds the values exactly."""
    dtype, encode = FORMATS[source.stored]
    chunks = (encode(source.rows(start, stop)) for start, stop in _row_blocks(source.shape))
    return [sink.put(name, dtype, source.shape, chunks)]


def put_int8(sink: Sink, name: str, source: QuantisedSource) -> list[onnx.TensorProto]:
    """`name` the effective int8 weight, `name.scale` f32[N], in one pass over the source."""
    scales: list[NDArray[np.float32]] = []

    def chunks() -> Iterator[bytes]:
        for rows in _quantised_blocks(source):
            scales.append(rows.scale)
            yield np.ascontiguousarray(rows.effective()).tobytes()

    codes = sink.put(name, onnx.TensorProto.INT8, source.shape, chunks())
    return [codes, put_array(sink, f"{name}.scale", np.concatenate(scales))]


def put_int4(sink: Sink, name: str, source: QuantisedSource) -> list[onnx.TensorProto]:
    """`name` int4 codes, `name.multipliers` f32[N, K / group], `name.scale` f32[N]."""
    scales: list[NDArray[np.float32]] = []
    multipliers: list[NDArray[np.int8]] = []

    def chunks() -> Iterator[bytes]:
        for rows in _quantised_blocks(source):
            if rows.multipliers is None:
                raise TypeError(f"{name!r} has no group multipliers")
            scales.append(rows.scale)
            multipliers.append(rows.multipliers)
            nibbles = rows.codes.reshape(-1, 2).view(np.uint8)
            yield (nibbles[:, 0] & 15 | nibbles[:, 1] << 4).tobytes()

    codes = sink.put(name, onnx.TensorProto.INT4, source.shape, chunks())
    groups = np.concatenate(multipliers).astype(np.float32)
    return [
        codes,
        put_array(sink, f"{name}.multipliers", groups),
        put_array(sink, f"{name}.scale", np.concatenate(scales)),
    ]


@dataclass(frozen=True, eq=False)
class Dequantised:
    """A grouped weight as the floats it stands for."""

    source: GroupedSource
    stored: str = "f32"

    @property
    def shape(self) -> tuple[int, ...]:
        return self.source.shape

    def rows(self, start: int, stop: int) -> F32:
        return self.source.grouped(start, stop).dequantise()


def put_grouped(sink: Sink, name: str, source: GroupedSource) -> list[onnx.TensorProto]:
    """`name` the codes (uint4 or uint8), `name.scales` f32[N, K / group], `name.zeros` of the codes' type."""
    scales: list[F32] = []
    zeros: list[NDArray[np.uint8]] = []

    def chunks() -> Iterator[bytes]:
        for start, stop in _row_blocks(source.shape):
            rows = source.grouped(start, stop)
            scales.append(rows.scales)
            zeros.append(rows.zeros)
            yield _unsigned(rows.codes, source.bits)

    dtype = onnx.TensorProto.UINT4 if source.bits == 4 else onnx.TensorProto.UINT8
    codes = sink.put(name, dtype, source.shape, chunks())
    points = np.concatenate(zeros)
    return [
        codes,
        put_array(sink, f"{name}.scales", np.concatenate(scales)),
        sink.put(f"{name}.zeros", dtype, points.shape, [_unsigned(points, source.bits)]),
    ]


def _unsigned(codes: NDArray[np.uint8], bits: int) -> bytes:
    """ONNX's form of uint8, or of uint4: two values a byte, the first in its low half."""
    if bits == 8:
        return np.ascontiguousarray(codes).tobytes()
    flat = np.append(codes.reshape(-1), np.zeros(codes.size % 2, np.uint8)).reshape(-1, 2)
    return (flat[:, 0] | flat[:, 1] << 4).tobytes()


def fits_blocks(source: GroupedSource) -> bool:
    """Whether the blocked form can hold it: whole groups, and rows of whole bytes."""
    k = source.shape[1]
    return k % source.group == 0 and (source.bits == 8 or k % 2 == 0)


def fits_int4(source: QuantisedSource) -> bool:
    """Whether the blocked form can hold it: whole groups, and rows of whole bytes."""
    k = source.shape[1]
    return (
        source.bits == 4
        and not source.tabled
        and source.group > 0
        and k % source.group == 0
        and k % 2 == 0
    )


def _quantised_blocks(source: QuantisedSource) -> Iterator[QuantisedRows]:
    for start, stop in _row_blocks(source.shape):
        yield source.quantised(start, stop)


def _row_blocks(shape: tuple[int, ...]) -> Iterator[tuple[int, int]]:
    step = max(1, BLOCK_ELEMENTS // max(1, int(np.prod(shape[1:]))))
    for start in range(0, shape[0], step):
        yield start, min(start + step, shape[0])
