"""Tensors side by side: what is counted, in bounded memory."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from numpy.typing import NDArray
from support.graphs import Draw

from hearth.compiler.lower.layouts import LAYOUTS
from hearth.runtime.archive.rows import batch_rows
from hearth.runtime.diff.findings import State, TensorDiff
from hearth.runtime.diff.tensors import Weights, tensor_diffs
from hearth.schemas.commands import Layout
from hearth.schemas.weights_index import TensorEntry, WeightsIndex

N, K = 32, 64


def int8(codes: NDArray[np.int8], scales: NDArray[np.float32]) -> bytes:
    """q8b16 of [32, 64], from docs/layouts.md."""
    blocks = codes.reshape(2, 16, K // 4, 4).transpose(0, 2, 1, 3)
    return blocks.tobytes() + scales.tobytes()


def entry(name: str, nbytes: int, layout: Layout | None, shape: tuple[int, ...]) -> TensorEntry:
    return TensorEntry(name, 0, nbytes, layout, shape, 0, False, 1)


def weights(data: bytes, *entries: TensorEntry) -> Weights:
    return Weights(memoryview(data), WeightsIndex(entries))


def compare(a: Weights, b: Weights) -> list[TensorDiff]:
    return list(tensor_diffs(a, b, lambda _: None))


def packed(codes: NDArray[np.int8], scales: NDArray[np.float32]) -> Weights:
    data = int8(codes, scales)
    return weights(data, entry("w", len(data), Layout.Q8B16, (N, K)))


def test_codes_and_scales_are_counted() -> None:
    rng = np.random.default_rng(0)
    codes = rng.integers(-127, 128, (N, K)).astype(np.int8)
    scales = np.full(N, 0.5, np.float32)
    codes[3, 4], codes[9, 60] = 10, -5
    others, wider = codes.copy(), scales.copy()
    others[3, 4], others[9, 60], wider[20] = 13, -6, 0.625
    (found,) = compare(packed(codes, scales), packed(others, wider))
    parts = {part.name: part for part in found.parts}
    assert set(parts) == {"codes", "scales"}
    assert (parts["codes"].changed, parts["codes"].total) == (2, N * K)
    assert parts["codes"].largest == 3
    assert (parts["scales"].changed, parts["scales"].relative) == (1, 0.2)
    assert found.values is not None
    before = codes * scales[:, None]
    after = others * wider[:, None]
    assert found.values.largest == np.abs(before - after).max()
    assert found.values.rms == pytest.approx(np.sqrt(np.mean((before - after) ** 2)), rel=1e-6)
    share = found.values.rms / np.sqrt(np.mean(before.astype(np.float64) ** 2))
    assert found.values.relative_rms == pytest.approx(share, rel=1e-6)


def test_levels_of_a_table_are_counted_once() -> None:
    """However many batches its rows take."""
    n, k, group = 3 * batch_rows(1024), 1024, 128
    weight = Draw().tabled("w", n, k, 2, group).value
    data = np.concatenate(list(LAYOUTS[Layout.T2B16].chunks(weight)))
    other = data.copy()
    other[1] += 1
    form = TensorEntry("w", 0, data.size, Layout.T2B16, (n, k), group, False, 1)
    (found,) = compare(weights(data.tobytes(), form), weights(other.tobytes(), form))
    assert [(p.name, p.changed, p.total, p.largest) for p in found.parts] == [("levels", 1, 4, 1)]
    assert found.values is not None and found.values.rms > 0


def test_equal_tensors_are_not_mentioned_wherever_they_lie() -> None:
    values = np.arange(16, dtype=np.float32)
    one = weights(values.tobytes(), entry("v", 64, None, (16,)))
    moved = TensorEntry("v", 128, 64, None, (16,), 0, False, 1)
    assert compare(one, weights(bytes(128) + values.tobytes(), moved)) == []


def test_names_of_one_side_only() -> None:
    a = weights(bytes(64), entry("old", 64, None, (16,)))
    b = weights(bytes(64), entry("new", 64, None, (16,)))
    assert [(each.name, each.state) for each in compare(a, b)] == [
        ("old", State.REMOVED),
        ("new", State.ADDED),
    ]


def test_another_layout_is_compared_by_value_and_another_shape_not() -> None:
    rng = np.random.default_rng(1)
    codes = rng.integers(-127, 128, (N, K)).astype(np.int8)
    scales = np.full(N, 0.25, np.float32)
    quantised = packed(codes, scales)
    values = (codes * scales[:, None]).astype(np.float32)
    blocks = values.reshape(2, 16, K).transpose(0, 2, 1).tobytes()
    floats = weights(blocks, entry("w", len(blocks), Layout.F32B16, (N, K)))
    (found,) = compare(quantised, floats)
    assert [change.path for change in found.form] == ["layout"]
    assert found.parts == ()
    assert found.values is not None and found.values.largest == 0
    (found,) = compare(floats, weights(blocks, entry("w", len(blocks), Layout.F32B16, (K, N))))
    assert found.values is None


def test_an_index_that_lies_about_sizes_is_no_crash() -> None:
    a = weights(bytes(4096), entry("w", 4096, Layout.Q8B16, (50, 200)))
    b = weights(b"\1" * 4096, entry("w", 4096, Layout.Q8B16, (50, 200)))
    (found,) = compare(a, b)
    assert found.state is State.CHANGED and found.values is None


def test_nan_and_signed_zero_are_bits() -> None:
    a = np.array([np.nan, 0.0, 1.0], np.float32)
    b = np.array([np.nan, -0.0, 1.0], np.float32)
    one, other = (weights(x.tobytes(), entry("v", 12, None, (3,))) for x in (a, b))
    assert compare(one, one) == []
    (found,) = compare(one, other)
    assert [(part.name, part.changed, part.largest) for part in found.parts] == [("values", 1, 0.0)]


@pytest.mark.parametrize("strange", [np.nan, np.inf, -np.inf, 3e38])
def test_numbers_that_are_no_weights_leave_the_report_finite(strange: float) -> None:
    a, b = np.zeros(4, np.float32), np.array([0, strange, 1, -strange], np.float32)
    one, other = (weights(x.tobytes(), entry("v", 16, None, (4,))) for x in (a, b))
    for found in (*compare(one, other), *compare(other, one)):
        assert found.values is not None
        assert np.isfinite(
            [found.values.largest, found.values.rms, found.values.relative_rms]
        ).all()
        assert all(np.isfinite([part.largest, part.relative]).all() for part in found.parts)


def test_memory_is_bounded() -> None:
    n, k = 4096, 2048  # 32 MiB
    values = np.zeros((n, k), np.float32)
    data = values.tobytes()
    other = bytearray(data)
    other[-4:] = np.float32(1).tobytes()
    entries = entry("w", len(data), None, (n, k))
    a, b = weights(data, entries), weights(bytes(other), entries)
    tracemalloc.start()
    (found,) = compare(a, b)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.parts[0].changed == 1
    assert peak < 48 << 20  # two batches of 4 MiB as float64 and their differences
