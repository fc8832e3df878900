"""TensorSource: one tensor of a safetensors file, read and checked by row ranges; Words: one of whole numbers.

Rows go through one small buffer into a fresh array: nothing is mapped, so a checkpoint of any size never
becomes resident. Every value read is checked: NaN and Inf are refused where they are first met.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from io import FileIO
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hearth.compiler.frontend.shard import Shard, TensorEntry, open_file, read_into
from hearth.schemas.errors import CheckpointError

F32 = NDArray[np.float32]
Raw = NDArray[Any]
WORDS = ("I32", "U32")
PIECE = 1 << 18  # bytes read at once; stays in the L2 cache between check and conversion


@dataclass(frozen=True)
class Format:
    """A float format: raw little-endian integers, the bits of its exponent, and the exact widening to f32."""

    stored: str
    raw: str
    exponent: int
    widen: Callable[[Raw, F32], None]

    @property
    def itemsize(self) -> int:
        return int(np.dtype(self.raw).itemsize)

    def bad(self, raw: Raw) -> int | None:
        """Index of the first NaN or Inf: all exponent bits set."""
        sign = 1 << (8 * self.itemsize - 1)
        magnitude = raw & raw.dtype.type(sign - 1)
        if not len(raw) or magnitude.max() < self.exponent:
            return None
        return int((magnitude >= self.exponent).argmax())


def _widen_f32(raw: Raw, out: F32) -> None:
    out[...] = raw.view("<f4")


def _widen_f16(raw: Raw, out: F32) -> None:
    out[...] = raw.view("<f2")


def _widen_bf16(raw: Raw, out: F32) -> None:
    np.left_shift(raw, np.uint32(16), out=out.view(np.uint32), dtype=np.uint32)


FORMATS: Mapping[str, Format] = {
    "F32": Format("f32", "<u4", 0x7F800000, _widen_f32),
    "F16": Format("f16", "<u2", 0x7C00, _widen_f16),
    "BF16": Format("bf16", "<u2", 0x7F80, _widen_bf16),
}


@dataclass(frozen=True, eq=False)
class TensorSource:
    """rows(start, stop) of a tensor [N] or [N, K] as f32; the values of f16 and bf16 are exact."""

    shard: Shard
    entry: TensorEntry

    def __post_init__(self) -> None:
        if self.entry.dtype not in FORMATS:
            raise self._error(
                "checkpoint.dtype_unsupported",
                f"has dtype {self.entry.dtype}",
                expected="F32, F16 or BF16",
                remedy="save the model in one of these (model.to(torch.bfloat16).save_pretrained)",
            )
        if len(self.entry.shape) not in (1, 2):
            raise self._error(
                "checkpoint.tensor_rank",
                f"has shape {list(self.entry.shape)}",
                expected="a vector or a matrix",
            )

    @property
    def shape(self) -> tuple[int, ...]:
        return self.entry.shape

    @property
    def stored(self) -> str:
        return FORMATS[self.entry.dtype].stored

    @property
    def columns(self) -> int:
        """Values per row."""
        return self.shape[1] if len(self.shape) == 2 else 1

    def rows(self, start: int, stop: int) -> F32:
        """f32 of shape (stop - start, *shape[1:]); NaN or Inf is `checkpoint.not_finite`."""
        if not 0 <= start <= stop <= self.shape[0]:
            raise IndexError(f"rows {start}:{stop} of {self.entry.name} {self.shape}")
        out = np.empty((stop - start, *self.shape[1:]), np.float32)
        flat, at, kind = out.reshape(-1), 0, FORMATS[self.entry.dtype]
        for raw in self._raw(start * self.columns, stop * self.columns):
            bad = kind.bad(raw)
            if bad is not None:
                raise self._not_finite(start * self.columns + at + bad)
            kind.widen(raw, flat[at : at + len(raw)])
            at += len(raw)
        return out

    def check_finite(self) -> None:
        """Read all values once, keeping none; NaN or Inf is `checkpoint.not_finite`."""
        at, kind = 0, FORMATS[self.entry.dtype]
        for raw in self._raw(0, self.shape[0] * self.columns):
            bad = kind.bad(raw)
            if bad is not None:
                raise self._not_finite(at + bad)
            at += len(raw)

    def same_bytes(self, other: TensorSource) -> bool:
        """Whether both hold the same values in the same dtype and shape."""
        if (self.entry.dtype, self.shape) != (other.entry.dtype, other.shape):
            return False
        stop = self.shape[0] * self.columns
        pairs = zip(self._raw(0, stop), other._raw(0, stop), strict=True)
        return all(np.array_equal(mine, theirs) for mine, theirs in pairs)

    def _raw(self, start: int, stop: int) -> Iterator[Raw]:
        """Values start..stop as raw integers, piece by piece; a piece is valid until the next is asked for."""
        kind = FORMATS[self.entry.dtype]
        step = PIECE // kind.itemsize
        buffer = np.empty(min(step, stop - start), kind.raw)
        with _opened(self.shard) as file:
            for low in range(start, stop, step):
                piece = buffer[: min(step, stop - low)]
                offset = self.entry.start + low * kind.itemsize
                read_into(file, piece.view(np.uint8).data, offset)
                yield piece

    def _not_finite(self, index: int) -> CheckpointError:
        place = [index // self.columns, index % self.columns][: len(self.shape)]
        return self._error(
            "checkpoint.not_finite",
            f"has NaN or Inf at {place}",
            expected="finite weights",
            remedy="the checkpoint is damaged, or its training diverged",
        )

    def _error(self, code: str, found: str, expected: str, remedy: str = "") -> CheckpointError:
        return CheckpointError(
            code,
            f"tensor {self.entry.name!r} {found}",
            expected=expected,
            where=str(self.shard.path),
            remedy=remedy,
        )


@dataclass(frozen=True, eq=False)
class Words:
    """A tensor of whole numbers of 32 bits, read all at once."""

    shard: Shard
    entry: TensorEntry

    def __post_init__(self) -> None:
        if self.entry.dtype not in WORDS:
            raise CheckpointError(
                "checkpoint.dtype_unsupported",
                f"tensor {self.entry.name!r} has dtype {self.entry.dtype}",
                expected=" or ".join(WORDS),
                where=str(self.shard.path),
                remedy="the checkpoint is packed in a way that is not known",
            )

    @property
    def shape(self) -> tuple[int, ...]:
        return self.entry.shape

    def read(self) -> NDArray[np.uint32]:
        """u32 of the stored shape."""
        out = np.empty(self.shape, np.uint32)
        with _opened(self.shard) as file:
            read_into(file, out.reshape(-1).view(np.uint8).data, self.entry.start)
        return out


@contextmanager
def _opened(shard: Shard) -> Iterator[FileIO]:
    """The open file, if it still is the one whose header was read."""
    with open_file(shard.path) as file:
        status = os.fstat(file.fileno())
        if (status.st_size, status.st_mtime_ns) != (shard.size, shard.mtime_ns):
            raise CheckpointError(
                "checkpoint.changed",
                "the file was changed while it was being compiled",
                where=str(shard.path),
                remedy="compile again once nothing writes to it",
            )
        yield file
