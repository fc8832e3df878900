"""TensorSource: exact conversion, any row range, NaN refused where it is read, nothing kept resident."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from support.checkpoints import encode, safetensors_bytes, with_header

from hearth.compiler.frontend import safetensors
from hearth.compiler.frontend.safetensors import TensorSource
from hearth.compiler.frontend.shard import read_shard
from hearth.compiler.ir.tensors import Source, read
from hearth.schemas.errors import CheckpointError

F32 = NDArray[np.float32]


def _write(path: Path, dtype: str, shape: list[int], body: bytes) -> TensorSource:
    entry = {"dtype": dtype, "shape": shape, "data_offsets": [0, len(body)]}
    path.write_bytes(with_header({"w": entry}, body))
    shard = read_shard(path)
    return TensorSource(shard, shard.tensors["w"])


def _bits(values: F32) -> NDArray[np.uint32]:
    return values.view(np.uint32)


def test_every_finite_bf16_is_widened_exactly(tmp_path: Path) -> None:
    codes = np.arange(1 << 16, dtype=np.uint16)
    finite = codes[(codes & 0x7F80) != 0x7F80]
    source = _write(tmp_path / "w", "BF16", [len(finite)], finite.astype("<u2").tobytes())
    assert source.stored == "bf16"
    assert np.array_equal(_bits(read(source)), finite.astype(np.uint32) << 16)


def test_every_finite_f16_is_widened_exactly(tmp_path: Path) -> None:
    halves = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    finite = halves[np.isfinite(halves)]
    source = _write(tmp_path / "w", "F16", [len(finite)], finite.astype("<f2").tobytes())
    assert source.stored == "f16"
    assert np.array_equal(_bits(read(source)), _bits(finite.astype(np.float32)))
    assert len(finite) == (1 << 16) - 2 * 1024


def test_f32_keeps_its_bits_subnormals_and_signed_zeros_too(tmp_path: Path) -> None:
    values = np.array([0.0, -0.0, 1e-45, -1e-40, 3.4e38, -1.5], np.float32)
    source = _write(tmp_path / "w", "F32", [6], values.tobytes())
    assert np.array_equal(_bits(read(source)), _bits(values))


@pytest.mark.parametrize("dtype", ["F32", "F16", "BF16"])
@pytest.mark.parametrize("piece", [8, 100, 1 << 18])
def test_any_row_range(
    dtype: str, piece: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(safetensors, "PIECE", piece)
    values = np.arange(11 * 7, dtype=np.float32).reshape(11, 7)
    source = _write(tmp_path / "w", dtype, [11, 7], encode(values, dtype))
    assert isinstance(source, Source)
    for start in range(12):
        for stop in range(start, 12):
            rows = source.rows(start, stop)
            assert rows.dtype == np.float32
            assert rows.flags.owndata or rows.base is not None
            assert np.array_equal(rows, values[start:stop])
    for wrong in ((-1, 2), (3, 2), (0, 12)):
        with pytest.raises(IndexError):
            source.rows(*wrong)


def test_rows_are_fresh(tmp_path: Path) -> None:
    source = _write(tmp_path / "w", "F32", [2, 2], np.ones((2, 2), np.float32).tobytes())
    source.rows(0, 2)[...] = 7
    assert np.array_equal(source.rows(0, 2), np.ones((2, 2)))


NOT_FINITE = {
    "F32": (0x7F800000, 0xFF800000, 0x7FC00000, 0xFFFFFFFF, 0x7F800001),
    "F16": (0x7C00, 0xFC00, 0x7E00, 0xFFFF),
    "BF16": (0x7F80, 0xFF80, 0x7FC0, 0xFFFF),
}


@pytest.mark.parametrize(
    ("dtype", "bits"),
    [(dtype, bits) for dtype, all_bits in NOT_FINITE.items() for bits in all_bits],
)
def test_nan_and_inf_are_refused_with_their_place(dtype: str, bits: int, tmp_path: Path) -> None:
    width = 4 if dtype == "F32" else 2
    body = bytearray(encode(np.ones((5, 3), np.float32), dtype))
    for index in (7, 13):
        body[index * width : (index + 1) * width] = bits.to_bytes(width, "little")
    source = _write(tmp_path / "w", dtype, [5, 3], bytes(body))
    source.rows(0, 2)
    source.rows(3, 4)
    for trigger in (lambda: source.rows(1, 5), source.check_finite):
        with pytest.raises(CheckpointError, match=r"'w' has NaN or Inf at \[2, 1\]") as caught:
            trigger()
        assert caught.value.code == "checkpoint.not_finite"


def test_the_place_in_a_vector_is_one_number(tmp_path: Path) -> None:
    values = np.array([1, np.nan], np.float32)
    with pytest.raises(CheckpointError, match=r"at \[1\]"):
        read(_write(tmp_path / "w", "F32", [2], values.tobytes()))


@pytest.mark.parametrize(
    ("dtype", "shape", "nbytes", "code"),
    [
        ("I8", [4], 4, "checkpoint.dtype_unsupported"),
        ("F8_E4M3", [2, 2], 4, "checkpoint.dtype_unsupported"),
        ("F64", [2], 16, "checkpoint.dtype_unsupported"),
        ("F32", [], 4, "checkpoint.tensor_rank"),
        ("F32", [1, 2, 1], 8, "checkpoint.tensor_rank"),
    ],
)
def test_what_no_weight_can_be(
    dtype: str, shape: list[int], nbytes: int, code: str, tmp_path: Path
) -> None:
    with pytest.raises(CheckpointError, match="'w'") as caught:
        _write(tmp_path / "w", dtype, shape, bytes(nbytes))
    assert caught.value.code == code


def test_a_file_changed_meanwhile_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "w"
    source = _write(path, "F32", [4], bytes(16))
    status = path.stat()
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1_000_000_000))
    with pytest.raises(CheckpointError, match="changed"):
        source.rows(0, 4)
    path.unlink()
    with pytest.raises(CheckpointError, match="no such file"):
        source.rows(0, 4)


def test_same_bytes(tmp_path: Path) -> None:
    ones = np.ones((3, 2), np.float32)
    other = ones.copy()
    other[2, 1] = 2
    path = tmp_path / "w"
    path.write_bytes(safetensors_bytes({"a": ones, "b": ones, "c": other, "d": ones[:2]}))
    shard = read_shard(path)
    a, b, c, d = (TensorSource(shard, shard.tensors[name]) for name in "abcd")
    assert a.same_bytes(b)
    assert not a.same_bytes(c)
    assert not a.same_bytes(d)


def test_no_map_of_the_file_stays(tmp_path: Path) -> None:
    path = tmp_path / "w"
    source = _write(path, "BF16", [1000, 100], bytes(200_000))
    rows = source.rows(0, 1000)
    maps = Path("/proc/self/maps")
    if not maps.exists():
        pytest.skip("no /proc/self/maps on this system")
    assert str(path) not in maps.read_text()
    links = [f"/proc/self/fd/{name}" for name in os.listdir("/proc/self/fd")]
    assert not any(os.path.exists(x) and os.path.samefile(x, path) for x in links)
    assert rows.shape == (1000, 100)
