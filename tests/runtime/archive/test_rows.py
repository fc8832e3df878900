"""Reading packed bytes: plain arrays, bounded batches, and bytes that are not what the index says.

That any range of rows is what was packed: tests/compiler/lower/test_layouts.py.
"""

from __future__ import annotations

import numpy as np
import pytest

from hearth.runtime.archive.rows import BATCH_NBYTES, READERS, batch_rows, packed_rows, rows_of
from hearth.schemas.commands import Layout
from hearth.schemas.weights_index import TensorEntry


def test_a_plain_array_is_rows_of_floats() -> None:
    values = np.arange(12, dtype=np.float32).reshape(6, 2)
    entry = TensorEntry("t", 0, 48, None, (6, 2), 0, False, 0)
    data = values.view(np.uint8).ravel()
    assert np.array_equal(packed_rows(data, entry, 2, 5).values(), values[2:5])
    assert rows_of((5,)) == (5, 1)
    assert rows_of(()) == (1, 1)


@pytest.mark.parametrize("group", [0, 32])
@pytest.mark.parametrize("layout", READERS)
def test_bytes_of_another_size_are_refused(layout: Layout, group: int) -> None:
    data = np.zeros(64 * 7 + 4, np.uint8)
    with pytest.raises(ValueError):
        packed_rows(data, TensorEntry("w", 0, data.size, layout, (50, 200), group, False, 1), 0, 50)


def test_every_layout_has_a_reader_and_batches_are_bounded() -> None:
    assert set(READERS) == set(Layout)
    for k in (1, 1536, 10**6):
        assert batch_rows(k) % 32 == 0
        assert batch_rows(k) == 32 or batch_rows(k) * k * 4 <= BATCH_NBYTES
