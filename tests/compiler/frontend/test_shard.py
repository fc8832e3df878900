"""Headers of safetensors files: right ones are read, each way to be wrong has its code, none crashes."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.checkpoints import safetensors_bytes, with_header

from hearth.compiler.frontend.shard import MAX_HEADER, read_shard
from hearth.schemas.errors import CheckpointError

A = {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}
B = {"dtype": "F16", "shape": [5], "data_offsets": [24, 34]}
BODY = bytes(34)


def test_a_right_header_is_read(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(with_header({"__metadata__": {"x": "y"}, "b": B, "a": A}, BODY))
    shard = read_shard(path)
    base = 8 + len(shard.header)
    assert set(shard.tensors) == {"a", "b"}
    assert (shard.tensors["a"].shape, shard.tensors["a"].start) == ((2, 3), base)
    assert (shard.tensors["b"].start, shard.tensors["b"].nbytes) == (base + 24, 10)
    assert shard.size == path.stat().st_size == base + 34


def test_empty_tensors_and_padding_are_legal(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    empty = {"dtype": "F32", "shape": [0, 3], "data_offsets": [24, 24]}
    text = json.dumps({"a": A, "e": empty}).encode() + b"     "
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(24))
    assert read_shard(path).tensors["e"].nbytes == 0


def _b(**changes: Any) -> bytes:
    return with_header({"a": A, "b": {**B, **changes}}, BODY)


WRONG: dict[str, tuple[bytes, str, str]] = {
    "empty file": (b"", "checkpoint.truncated", "0 bytes"),
    "cut in the length": (b"\0\0\0", "checkpoint.truncated", "3 bytes"),
    "cut in the header": (_b()[:40], "checkpoint.truncated", "header"),
    "cut in the last tensor": (_b()[:-1], "checkpoint.truncated", "'b'"),
    "cut in the first tensor": (_b()[:-30], "checkpoint.truncated", "'a'"),
    "huge header": (
        struct.pack("<Q", MAX_HEADER + 1) + b"{}",
        "checkpoint.header_too_large",
        str(MAX_HEADER),
    ),
    "not JSON": (struct.pack("<Q", 4) + b"{'a'", "checkpoint.header_invalid", "not JSON"),
    "not UTF-8": (struct.pack("<Q", 2) + b"\xff\xfe", "checkpoint.header_invalid", "not JSON"),
    "deep JSON": (
        struct.pack("<Q", 200_000) + b"[" * 200_000,
        "checkpoint.header_invalid",
        "not JSON",
    ),
    "a list": (with_header([A], b""), "checkpoint.header_invalid", "list"),
    "a name twice": (
        struct.pack("<Q", 15) + b'{"a":{},"a":{}}',
        "checkpoint.header_invalid",
        "'a' occurs twice",
    ),
    "no shape": (with_header({"a": {"dtype": "F32"}}, b""), "checkpoint.header_invalid", "'a'"),
    "negative shape": (_b(shape=[-5]), "checkpoint.header_invalid", "'b'"),
    "shape of strings": (_b(shape=["5"]), "checkpoint.header_invalid", "'b'"),
    "shape of booleans": (_b(shape=[True]), "checkpoint.header_invalid", "'b'"),
    "fractional offsets": (_b(data_offsets=[24.0, 34]), "checkpoint.header_invalid", "'b'"),
    "three offsets": (_b(data_offsets=[24, 34, 40]), "checkpoint.header_invalid", "'b'"),
    "unknown dtype": (_b(dtype="F17"), "checkpoint.header_invalid", "'F17'"),
    "size against shape": (_b(shape=[6]), "checkpoint.tensor_size", "'b'"),
    "size overflow": (_b(shape=[2**40, 2**40]), "checkpoint.tensor_size", "'b'"),
    "offsets reversed": (_b(data_offsets=[34, 24]), "checkpoint.tensor_size", "'b'"),
    "out of bounds": (_b(data_offsets=[30, 40]), "checkpoint.truncated", "'b'"),
    "overlap": (_b(data_offsets=[20, 30]), "checkpoint.tensor_overlap", "'b' overlaps 'a'"),
    "hole": (
        with_header({"a": A, "b": {**B, "data_offsets": [25, 35]}}, bytes(35)),
        "checkpoint.tensor_hole",
        "'b'",
    ),
    "trailing bytes": (_b() + b"x", "checkpoint.trailing_bytes", "1 bytes"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_header_is_refused(case: str, tmp_path: Path) -> None:
    content, code, named = WRONG[case]
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(CheckpointError) as caught:
        read_shard(path)
    assert caught.value.code == code
    assert named in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_missing_and_an_unreadable_file_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="shard_missing"):
        read_shard(tmp_path / "none.safetensors")
    (tmp_path / "folder.safetensors").mkdir()
    with pytest.raises(CheckpointError, match="unreadable"):
        read_shard(tmp_path / "folder.safetensors")


GOOD = safetensors_bytes({"a": np.ones((2, 3), np.float32), "b": np.ones(5, np.float32)})


def _flip(at: int, value: int) -> bytes:
    changed = bytearray(GOOD)
    changed[at % len(GOOD)] = value
    return bytes(changed)


MUTATIONS: st.SearchStrategy[bytes] = st.one_of(
    st.binary(max_size=64),
    st.integers(0, len(GOOD)).map(lambda cut: GOOD[:cut]),
    st.tuples(st.integers(0, len(GOOD)), st.integers(0, 255)).map(lambda pair: _flip(*pair)),
)


@settings(max_examples=300, deadline=None)
@given(content=MUTATIONS)
def test_any_bytes_are_read_or_refused(
    content: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "mutated.safetensors"
    path.write_bytes(content)
    try:
        tensors = read_shard(path).tensors.values()
    except CheckpointError:
        return
    assert all(entry.start + entry.nbytes <= len(content) for entry in tensors)
