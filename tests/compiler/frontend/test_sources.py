"""Row ranges and transposes read lazily: equal values in any order of reading, bounded memory."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest
from support.graphs import F32

from hearth.compiler.frontend.sources import Panel, RowRange, Transposed
from hearth.compiler.ir.tensors import ArraySource, read


@dataclass(eq=False)
class Counted:
    """A source that counts the values it gave."""

    values: F32
    stored: str = "f32"
    given: list[int] = field(default_factory=list)

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.values.shape)

    def rows(self, start: int, stop: int) -> F32:
        assert 0 <= start <= stop <= len(self.values)
        self.given.append((stop - start) * self.values.shape[1])
        return self.values[start:stop]


def matrix(height: int, width: int) -> F32:
    return np.random.default_rng(height).standard_normal((height, width)).astype(np.float32)


@pytest.mark.parametrize("nbytes", [1, 4 * 37 * 5, 1 << 20])
@pytest.mark.parametrize("step", [1, 4, 16, 53])
def test_a_transpose_gives_the_same_rows_in_any_steps(nbytes: int, step: int) -> None:
    values = matrix(37, 53)
    source = Transposed(ArraySource(values), Panel(nbytes))
    assert source.shape == (53, 37)
    pieces = [source.rows(at, min(at + step, 53)) for at in range(0, 53, step)]
    np.testing.assert_array_equal(np.concatenate(pieces), values.T)
    np.testing.assert_array_equal(read(source), values.T)


def test_one_panel_serves_many_sources() -> None:
    panel, (a, b) = Panel(4 * 20 * 8), (matrix(20, 30), matrix(20, 31))
    one, two = (Transposed(ArraySource(values), panel) for values in (a, b))
    for at in (0, 7, 3, 20):
        np.testing.assert_array_equal(one.rows(at, at + 5), a.T[at : at + 5])
        np.testing.assert_array_equal(two.rows(at, at + 9), b.T[at : at + 9])


def test_a_source_is_read_once_per_panel() -> None:
    counted = Counted(matrix(64, 80))
    source = Transposed(counted, Panel(4 * 64 * 20))  # 20 of 80 rows at a time
    for at in range(0, 80, 4):
        source.rows(at, at + 4)
    assert sum(counted.given) == 4 * 64 * 80


def test_what_is_given_may_be_changed() -> None:
    source = Transposed(ArraySource(matrix(4, 6)), Panel())
    source.rows(0, 6)[:] = 0
    assert read(source).all()


def test_row_ranges() -> None:
    values = matrix(10, 3)
    source = RowRange(ArraySource(values, "bf16"), 2, 9)
    assert (source.shape, source.stored) == ((7, 3), "bf16")
    np.testing.assert_array_equal(read(source), values[2:9])
    np.testing.assert_array_equal(source.rows(5, 7), values[7:9])
