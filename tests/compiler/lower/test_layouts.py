"""Packed layouts: unpack inverts pack, sizes and bytes are as documented, memory stays bounded."""

from __future__ import annotations

import tracemalloc
from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray
from support.graphs import CodedSource, Draw, GivenGroups

from hearth.compiler.ir.ops import Constant
from hearth.compiler.ir.tensors import ArraySource, GroupedRows, QuantisedRows
from hearth.compiler.lower.layouts import LAYOUTS, AnySource
from hearth.compiler.lower.weights import group_of
from hearth.runtime.archive.rows import StoredRows, packed_rows
from hearth.schemas.commands import Layout
from hearth.schemas.weights_index import TensorEntry

SHAPES = {
    "one": (1, 1),
    "one_block": (16, 64),
    "tail_channels": (33, 64),
    "tail_k": (16, 172),
    "tail_both": (50, 200),
    "many_groups": (16, 1030),
    "one_row_past_a_block": (34, 4),
}
FORMS = {
    "f32": (Layout.F32B16, 0),
    "f16": (Layout.F16B16, 0),
    "int8": (Layout.Q8B16, 0),
    "int4_g32": (Layout.Q4B16, 32),
    "int4_g64": (Layout.Q4B16, 64),
    "int4_g128": (Layout.Q4B16, 128),
    "grouped4_g16": (Layout.G4B16, 16),
    "grouped4_g48": (Layout.G4B16, 48),
    "grouped4_row": (Layout.G4B16, 1040),
    "grouped8_g32": (Layout.G8B16, 32),
    "grouped8_row": (Layout.G8B16, 1040),
    **{
        f"table{layout.table_bits}_g{group}": (layout, group)
        for layout in Layout
        if layout.table_bits
        for group in (32, 64, 128)
    },
}


def source(layout: Layout, n: int, k: int, group: int) -> AnySource:
    draw = Draw(n * 1000 + k)
    if layout.table_bits:
        return draw.tabled("w", n, k, layout.table_bits, group).value
    if layout in (Layout.G4B16, Layout.G8B16):
        return draw.grouped("w", n, k, 4 if layout is Layout.G4B16 else 8, group).value
    if layout in (Layout.Q8B16, Layout.Q4B16):
        constant: Constant = draw.coded("w", n, k, 8 if layout is Layout.Q8B16 else 4, group)
        return constant.value
    values = draw.array(n, k)
    return ArraySource(
        values if layout is Layout.F32B16 else values.astype(np.float16).astype("f4")
    )


def pack(layout: Layout, weight: AnySource, paired: bool) -> NDArray[np.uint8]:
    return np.concatenate(list(LAYOUTS[layout].chunks(weight, paired)))


@pytest.mark.parametrize("paired", [False, True], ids=["plain", "paired"])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_what_is_read_back_is_what_was_packed(
    form: tuple[Layout, int], shape: tuple[int, int], paired: bool
) -> None:
    (layout, group), (n, k) = form, shape
    n += n % 2 if paired else 0
    weight = source(layout, n, k, group)
    data = pack(layout, weight, paired)
    assert data.size == LAYOUTS[layout].nbytes(n, k, group_of(weight), paired)
    entry = TensorEntry("w", 0, data.size, layout, (n, k), group, paired, 1)
    for start, stop in {(0, n), (n // 3, n // 3 + 1), (max(0, n // 2 - 1), n)}:
        require_rows(packed_rows(data, entry, start, stop), weight, start, stop)


def require_rows(back: StoredRows, weight: AnySource, start: int, stop: int) -> None:
    """Rows start..stop of a source, part by part."""
    if isinstance(weight, ArraySource):
        assert np.array_equal(back.values(), weight.values[start:stop])
        return
    assert isinstance(weight, CodedSource | GivenGroups)
    rows = weight.all_rows
    assert np.array_equal(back.codes, rows.codes[start:stop])
    assert np.array_equal(back.values(), rows.dequantise()[start:stop])
    assert back.group == rows.group
    pairs = (
        [(back.scales, rows.scales), (back.zeros, rows.zeros)]
        if isinstance(rows, GroupedRows)
        else [(back.scales, rows.scale), (back.multipliers, rows.multipliers)]
    )
    if isinstance(rows, QuantisedRows):
        assert np.array_equal(back.table, rows.table)
    for found, whole in pairs:
        assert (found is None) == (whole is None)
        assert whole is None or np.array_equal(found, whole[start:stop])


def test_int8_bytes_are_as_documented() -> None:
    """s8[Kp/4][16][4], scales after all blocks, padding zero."""
    n, k = 18, 70
    weight = source(Layout.Q8B16, n, k, 0)
    codes = weight.quantised(0, n).codes
    data = pack(Layout.Q8B16, weight, False)
    blocks = data[: 2 * 16 * 128].view(np.int8).reshape(2, 32, 16, 4)
    for channel, column in ((0, 0), (5, 3), (15, 69), (16, 4), (17, 68)):
        stored = blocks[channel // 16, column // 4, channel % 16, column % 4]
        assert stored == codes[channel, column]
    assert not blocks[1, :, 2:].any()
    assert not blocks[:, 18:].any()
    scale = data[2 * 16 * 128 :].view(np.float32)
    assert np.array_equal(scale[:n], weight.quantised(0, n).scale)
    assert not scale[n:].any()


@pytest.mark.parametrize("group", [32, 64, 128])
def test_int4_bytes_are_as_documented(group: int) -> None:
    """Per 4 groups s8 m[4][16], then u8[.][16][4] of nibbles code + 8: low K = 8p + j, high 8p + 4 + j."""
    n, k = 18, 700
    columns = -(-k // group) * group
    weight = source(Layout.Q4B16, n, k, group)
    rows = weight.quantised(0, n)
    data = pack(Layout.Q4B16, weight, False)
    quarter = 64 + 4 * group * 8  # bytes of four groups
    block = -(-columns // (4 * group)) * 64 + columns * 8
    for channel, column in ((0, 0), (1, 4), (15, 699), (16, 7), (17, 512), (3, 640), (2, 127)):
        head = channel // 16 * block + column // (4 * group) * quarter
        inside = column % (4 * group)
        at = head + 64 + inside // 8 * 64 + channel % 16 * 4 + column % 4
        nibble = data[at] >> 4 if column % 8 >= 4 else data[at] & 15
        assert int(nibble) - 8 == rows.codes[channel, column]
        multiplier = data[head + inside // group * 16 + channel % 16].view(np.int8)
        assert multiplier == rows.multipliers[channel, column // group]
    line = block - 64  # the last codes of the second block: channels 2 to 15 are padding
    assert (data[block + line : 2 * block].reshape(16, 4)[2:] == 0x88).all()
    assert np.array_equal(data[2 * block :].view(np.float32)[:n], rows.scale)


@pytest.mark.parametrize("layout", [Layout.G4B16, Layout.G8B16], ids=["g4", "g8"])
def test_grouped_bytes_are_as_documented(layout: Layout) -> None:
    """Per 4 groups f32 scale[4][16], u8 zero[4][16], then their codes."""
    n, k, group = 18, 700, 48
    weight = source(layout, n, k, group)
    assert isinstance(weight, GivenGroups)
    rows, nbytes = weight.all_rows, 8 if layout is Layout.G4B16 else 16  # of codes per k
    data = pack(layout, weight, False)
    four = 320 + 4 * group * nbytes
    block = 4 * 320 + 704 * nbytes
    assert data.size == 2 * block
    for channel, column in ((0, 0), (1, 4), (15, 699), (16, 7), (17, 512), (3, 640), (2, 191)):
        head = channel // 16 * block + column // (4 * group) * four
        inside, line = column % (4 * group), 8 if layout is Layout.G4B16 else 4
        stored = data[head + 320 + inside // line * 64 + channel % 16 * 4 + column % 4]
        if layout is Layout.G4B16:
            stored = stored >> 4 if column % 8 >= 4 else stored & 15
        assert stored == rows.codes[channel, column]
        g = inside // group
        scale = data[head + g * 64 + channel % 16 * 4 :][:4].view(np.float32)[0]
        assert scale == rows.scales[channel, column // group]
        assert data[head + 256 + g * 16 + channel % 16] == rows.zeros[channel, column // group]


def test_paired_blocks_alternate() -> None:
    """gate block 0, up block 0, gate block 1, ...; each half padded on its own."""
    half, k = 20, 4
    values = np.repeat(np.arange(2 * half, dtype=np.float32)[:, None], k, axis=1)
    blocks = pack(Layout.F32B16, ArraySource(values), True).view(np.float32).reshape(4, k, 16)
    assert blocks[:, 0, :4].tolist() == [
        [0, 1, 2, 3],
        [20, 21, 22, 23],
        [16, 17, 18, 19],
        [36, 37, 38, 39],
    ]
    assert not blocks[2:, :, 4:].any()


def test_values_that_are_not_f16_are_refused() -> None:
    with pytest.raises(ValueError, match="not f16"):
        pack(Layout.F16B16, ArraySource(np.full((2, 2), 1.0001, np.float32)), False)


@dataclass(frozen=True, eq=False)
class Endless:
    """A large float weight made on demand."""

    shape: tuple[int, int]
    stored: str = "f32"

    def rows(self, start: int, stop: int) -> NDArray[np.float32]:
        return np.ones((stop - start, self.shape[1]), np.float32)


@pytest.mark.parametrize("paired", [False, True], ids=["plain", "paired"])
def test_packing_takes_bounded_memory(paired: bool) -> None:
    """160 MB of weight pass through buffers of less than 48 MB."""
    weight = Endless((80_000, 512))
    tracemalloc.start()
    total = sum(chunk.nbytes for chunk in LAYOUTS[Layout.F32B16].chunks(weight, paired))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert total == LAYOUTS[Layout.F32B16].nbytes(80_000, 512, 0, paired)
    assert peak < 48 << 20
