"""One safetensors file: its header, strictly checked, and the byte range of each tensor.

Format: 8 bytes little-endian header length N, N bytes of JSON, then the tensors without holes or overlap
(https://github.com/huggingface/safetensors#format).
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from io import FileIO
from math import prod
from pathlib import Path
from typing import Any

from hearth.compiler.frontend.json_files import unreadable
from hearth.schemas.errors import CheckpointError

MAX_HEADER = 100_000_000  # the limit of the reference implementation

BITS: Mapping[str, int] = {
    "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6,
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8,
    "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8,
    "I16": 16, "U16": 16, "F16": 16, "BF16": 16,
    "I32": 32, "U32": 32, "F32": 32,
    "I64": 64, "U64": 64, "F64": 64, "C64": 64,
}  # fmt: skip


@dataclass(frozen=True)
class TensorEntry:
    """A tensor of one file: `start` is the offset of its first byte in the file."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    nbytes: int


@dataclass(frozen=True)
class Shard:
    """A checked file. Size and time are kept, so that a file changed under a compile is noticed."""

    path: Path
    size: int
    mtime_ns: int
    header: bytes
    tensors: Mapping[str, TensorEntry]


def open_file(path: Path) -> FileIO:
    """The file, unbuffered; one that is missing or unreadable is a CheckpointError."""
    try:
        return FileIO(path)
    except FileNotFoundError:
        remedy = "fetch the whole checkpoint"
        raise CheckpointError(
            "checkpoint.shard_missing", "no such file", where=str(path), remedy=remedy
        ) from None
    except OSError as error:
        raise unreadable(path, error) from None


def read_into(file: FileIO, target: memoryview, offset: int) -> None:
    """Fill `target` from `offset`; a short file is a CheckpointError."""
    done = 0
    while done < len(target):
        count = _read_some(file, target[done:], offset + done)
        if count == 0:
            raise CheckpointError(
                "checkpoint.truncated",
                f"the file ends at byte {offset + done}",
                expected=f"{len(target)} bytes at {offset}",
                where=str(file.name),
            )
        done += count


def _read_some(file: FileIO, target: memoryview, offset: int) -> int:
    try:
        file.seek(offset)
        return file.readinto(target) or 0
    except OSError as error:
        raise unreadable(Path(str(file.name)), error) from None


def read_shard(path: Path) -> Shard:
    """Read and check the header; no tensor is read."""
    with open_file(path) as file:
        status = os.fstat(file.fileno())
        header = _read_header(file, status.st_size, path)
    tensors = _entries(_parse(header, path), 8 + len(header), path)
    _check_cover(tensors, 8 + len(header), status.st_size, path)
    return Shard(path, status.st_size, status.st_mtime_ns, header, tensors)


def _read_header(file: FileIO, size: int, path: Path) -> bytes:
    if size < 8:
        raise CheckpointError(
            "checkpoint.truncated",
            f"{size} bytes",
            expected="a safetensors file (at least 8 bytes)",
            where=str(path),
            remedy="fetch the file again",
        )
    prefix = bytearray(8)
    read_into(file, memoryview(prefix), 0)
    length = int.from_bytes(prefix, "little")
    if length > MAX_HEADER:
        raise CheckpointError(
            "checkpoint.header_too_large",
            f"the header says it has {length} bytes",
            expected=f"at most {MAX_HEADER}",
            where=str(path),
            remedy="this is no safetensors file, or it is damaged",
        )
    if 8 + length > size:
        raise CheckpointError(
            "checkpoint.truncated",
            f"a header of {length} bytes in a file of {size}",
            expected=f"at least {8 + length} bytes",
            where=str(path),
            remedy="fetch the file again",
        )
    header = bytearray(length)
    read_into(file, memoryview(header), 8)
    return bytes(header)


def _bad_header(path: Path, found: str, expected: str = "") -> CheckpointError:
    return CheckpointError(
        "checkpoint.header_invalid",
        found,
        expected=expected,
        where=str(path),
        remedy="fetch the file again",
    )


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{twice!r} occurs twice")
    return table


def _parse(header: bytes, path: Path) -> dict[str, Any]:
    try:
        values = json.loads(header.decode("utf-8"), object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise _bad_header(path, f"the header is not JSON ({error})") from None
    if not isinstance(values, dict):
        raise _bad_header(path, f"the header is a {type(values).__name__}", "an object")
    return values


def _entries(values: dict[str, Any], base: int, path: Path) -> dict[str, TensorEntry]:
    return {
        name: _entry(name, value, base, path)
        for name, value in values.items()
        if name != "__metadata__"
    }


def _is_counts(value: object) -> bool:
    return isinstance(value, list) and all(type(item) is int and item >= 0 for item in value)


def _entry(name: str, value: object, base: int, path: Path) -> TensorEntry:
    match value:
        case {"dtype": str(dtype), "shape": list(shape), "data_offsets": [begin, end]} if (
            _is_counts(shape) and _is_counts([begin, end])
        ):
            pass
        case _:
            expected = "dtype, shape and two data_offsets"
            raise _bad_header(path, f"tensor {name!r} is described by {str(value)[:80]}", expected)
    if dtype not in BITS:
        raise _bad_header(path, f"tensor {name!r} has dtype {dtype!r}", f"one of {', '.join(BITS)}")
    bits = prod(shape) * BITS[dtype]
    if begin > end or bits != 8 * (end - begin):
        raise CheckpointError(
            "checkpoint.tensor_size",
            f"tensor {name!r} lies at {begin}..{end}",
            expected=f"{bits // 8} bytes for {dtype}{shape}",
            where=str(path),
        )
    return TensorEntry(name, dtype, tuple(shape), base + begin, end - begin)


def _check_cover(tensors: Mapping[str, TensorEntry], base: int, size: int, path: Path) -> None:
    """The tensors cover the rest of the file exactly."""
    at, before = base, "the header"
    for entry in sorted(tensors.values(), key=lambda entry: (entry.start, entry.nbytes)):
        if entry.start + entry.nbytes > size:
            raise CheckpointError(
                "checkpoint.truncated",
                f"tensor {entry.name!r} ends at byte {entry.start + entry.nbytes} of {size}",
                where=str(path),
                remedy="the file is cut short: fetch it again",
            )
        if entry.start != at:
            relation = "overlaps" if entry.start < at else "leaves a hole after"
            raise CheckpointError(
                "checkpoint.tensor_overlap" if entry.start < at else "checkpoint.tensor_hole",
                f"tensor {entry.name!r} {relation} {before!r}",
                expected=f"its first byte at {at}, not {entry.start}",
                where=str(path),
            )
        at, before = entry.start + entry.nbytes, entry.name
    if at != size:
        raise CheckpointError(
            "checkpoint.trailing_bytes",
            f"{size - at} bytes after the last tensor",
            expected=f"a file of {at} bytes",
            where=str(path),
        )
