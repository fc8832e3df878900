"""Layouts of tables: any shape comes back as it was packed, bytes are as documented, other weights are refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from support.graphs import CodedSource, Draw

from hearth.compiler.ir.tensors import round_bf16
from hearth.compiler.lower.layouts import LAYOUTS
from hearth.runtime.archive.rows import packed_rows
from hearth.runtime.verify.plan.shapes import weight_nbytes
from hearth.schemas.commands import Layout
from hearth.schemas.weights_index import TensorEntry

TABLED = {layout.table_bits: layout for layout in Layout if layout.table_bits}
GROUPS = (32, 64, 128)


def source(bits: int, n: int, k: int, group: int, seed: int = 0) -> CodedSource:
    value = Draw(seed).tabled("w", n, k, bits, group).value
    assert isinstance(value, CodedSource)
    return value


def pack(weight: CodedSource, layout: Layout, paired: bool = False) -> NDArray[np.uint8]:
    return np.concatenate(list(LAYOUTS[layout].chunks(weight, paired)))


@settings(deadline=None, max_examples=80)
@given(
    st.sampled_from(sorted(TABLED)),
    st.sampled_from(GROUPS),
    st.integers(1, 70),
    st.integers(1, 700),
    st.booleans(),
    st.integers(0, 99),
)
def test_any_shape_comes_back(
    bits: int, group: int, n: int, k: int, paired: bool, seed: int
) -> None:
    n += n % 2 if paired else 0
    weight, layout = source(bits, n, k, group, seed), TABLED[bits]
    data = pack(weight, layout, paired)
    ints = {"N": n, "K": k, "layout": int(layout), "group": group}
    assert data.size == LAYOUTS[layout].nbytes(n, k, group, paired) == weight_nbytes(ints, paired)
    start, stop = seed % n, n
    entry = TensorEntry("w", 0, data.size, layout, (n, k), group, paired, 1)
    found = packed_rows(data, entry, start, stop)
    rows = weight.quantised(start, stop)
    assert np.array_equal(found.codes, rows.codes)
    assert np.array_equal(found.multipliers, rows.multipliers)
    assert np.array_equal(found.scales, rows.scale)
    assert np.array_equal(found.table, rows.table)
    assert np.array_equal(found.values(), rows.dequantise())


PLANES = {2: (2,), 3: (2, 1), 4: (4,), 5: (4, 1), 6: (4, 2)}


@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize("bits", sorted(TABLED))
def test_bytes_are_as_documented(bits: int, group: int) -> None:
    """One value after the other, by docs/layouts.md."""
    n, k = 18, 700
    weight = source(bits, n, k, group)
    rows, data = weight.all_rows, pack(weight, TABLED[bits])
    assert rows.multipliers is not None
    assert np.array_equal(data[: 1 << bits].view(np.int8), rows.table)
    assert not data[1 << bits : 64].any()
    groups, units = -(-k // group), -(-k // 32)
    block = groups * 16 + units * bits * 64
    turn = 64 + 4 * group // 32 * bits * 64
    for channel, column in ((0, 0), (1, 4), (15, 699), (16, 7), (17, 512), (3, 640), (2, 127)):
        head = 64 + channel // 16 * block + column // (4 * group) * turn
        count = min(4, groups - column // (4 * group) * 4)
        inside = column % (4 * group)
        multiplier = data[head + inside // group * 16 + channel % 16].view(np.int8)
        assert multiplier == rows.multipliers[channel, column // group]
        at = head + count * 16 + inside // 32 * bits * 64 + channel % 16 * 4 + column % 4
        quad, code, low = column % 32 // 4, 0, 0
        for width in PLANES[bits]:
            byte = data[at + quad // (8 // width) * 64]
            code |= (int(byte) >> quad % (8 // width) * width) % (1 << width) << low
            at, low = at + width * 64, low + width
        assert code == rows.codes[channel, column]
    scales = data[64 + 2 * block :].view(np.uint16)
    assert scales.size == 32
    assert np.array_equal(scales[:n], rows.scale.view(np.uint32) >> 16)
    assert not scales[n:].any()


def test_a_weight_of_another_form_is_refused() -> None:
    whole = source(4, 3, 40, 32)
    refused = (
        (whole, Layout.T3B16, "3-bit tables"),
        (Draw().coded("w", 3, 40, 4, 32).value, Layout.T4B16, "4-bit tables"),
        (whole, Layout.Q4B16, "int4 layout"),
        (replaced(whole, table=whole.all_rows.table[:8]), Layout.T4B16, "another table"),
        (replaced(whole, multipliers=None), Layout.T4B16, "in groups has a multiplier"),
    )
    for weight, layout, message in refused:
        with pytest.raises(TypeError, match=message):
            pack(weight, layout)
    sharp = replaced(whole, scale=np.full(3, 1.001, np.float32))
    with pytest.raises(ValueError, match="not bf16"):
        pack(sharp, Layout.T4B16)
    rounded = replaced(whole, scale=round_bf16(sharp.all_rows.scale))
    assert pack(rounded, Layout.T4B16).size == pack(whole, Layout.T4B16).size


def replaced(weight: CodedSource, **changes: object) -> CodedSource:
    return CodedSource(replace(weight.all_rows, **changes), weight.bits)
