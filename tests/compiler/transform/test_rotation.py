"""Rotations and the lazy sources over them: orthogonal, the same by any row ranges, one tensor in memory."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from hearth.compiler.ir.tensors import ArraySource
from hearth.compiler.transform.hadamard import dense, factors
from hearth.compiler.transform.mixed import MappedRows, MixedRows, ScaledRows, Slot
from hearth.compiler.transform.rotation import Centre, Chain, Rotation, random_signs, rotation

RNG = np.random.default_rng(5)


def matrix(turned: Rotation) -> np.ndarray:
    """R in float64."""
    whole = np.ones((1, 1))
    for factor in turned.factors:
        whole = np.kron(whole, factor)
    blocks = np.kron(np.eye(turned.size // len(whole)), whole) / np.sqrt(len(whole))
    return turned.signs[:, None] * blocks


def values(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("size", [1, 2, 24, 36, 64, 172, 192, 576, 896])
def test_apply_is_the_product_with_an_orthogonal_matrix(size: int) -> None:
    turned = rotation(factors(size).order, size, seed=3)
    r, x = matrix(turned), values(7, size)
    np.testing.assert_allclose(r @ r.T, np.eye(size), atol=1e-12)
    exact = x.astype(np.float64) @ r
    bound = np.abs(x).max() * (2.0**-24 * np.sqrt(size) + 2.0**-36)
    assert np.abs(turned.apply(x) - exact).max() <= bound


def test_blocks_turn_alike() -> None:
    turned, x = rotation(8, 24, seed=1), values(3, 8)
    whole = turned.apply(np.tile(x, (1, 3)))
    np.testing.assert_array_equal(whole, np.tile(rotation(8, 8, seed=1).apply(x), (1, 3)))


def test_scale_and_extremes() -> None:
    turned, x = rotation(24, 24), values(5, 24)
    np.testing.assert_array_equal(
        turned.apply(x * 2.0**-90), turned.apply(x) * np.float32(2.0**-90)
    )
    assert not turned.apply(np.zeros((2, 24), np.float32)).any()
    assert turned.apply(np.zeros((0, 24), np.float32)).shape == (0, 24)


def test_rows_are_independent() -> None:
    turned, x = rotation(192, 192), values(9, 192)
    np.testing.assert_array_equal(turned.apply(x)[4:5], turned.apply(x[4:5]))


def test_signs_are_those_of_the_seed_for_ever() -> None:
    assert random_signs(8, 0).tolist() == [-1, 1, 1, -1, 1, 1, 1, -1]  # tops of SplitMix64(0)
    assert (random_signs(64, 1) != random_signs(64, 0)).any()


def test_centre_takes_the_mean_off() -> None:
    x = values(4, 33) + 5
    centred = Centre(33).apply(x)
    np.testing.assert_allclose(centred, x - x.mean(axis=1, keepdims=True), atol=2e-6)
    chain = Chain(Centre(33), Centre(33))
    assert chain.size == 33 and np.abs(chain.apply(x) - centred).max() < 1e-6


class Counted:
    """Counts the rows that were read."""

    stored = "f32"

    def __init__(self, array: np.ndarray) -> None:
        self.array, self.read = array, 0

    @property
    def shape(self) -> tuple[int, ...]:
        return self.array.shape

    def rows(self, start: int, stop: int) -> np.ndarray:
        self.read += stop - start
        return self.array[start:stop].copy()


@pytest.mark.parametrize("columns", [None, 5])
@pytest.mark.parametrize(("first", "last", "span"), [(0, 24, 24), (4, 20, 8), (16, 24, 4)])
def test_mixed_rows_by_any_ranges(columns: int | None, first: int, last: int, span: int) -> None:
    w = values(24) if columns is None else values(24, columns)
    turned = rotation(factors(span).order, span, seed=2)
    source = MixedRows(ArraySource(w), first, last, turned, Slot())
    expected = w.astype(np.float64)
    for low in range(first, last, span):
        expected[low : low + span] = matrix(turned).T @ w[low : low + span]
    whole = source.rows(0, 24)
    np.testing.assert_allclose(whole, expected, atol=1e-5)
    for start, stop in [(0, 3), (3, 9), (5, 24), (19, 22), (7, 7), (23, 24)]:
        np.testing.assert_array_equal(source.rows(start, stop), whole[start:stop])


def test_a_mixed_tensor_is_read_once_while_nothing_else_is_asked_for() -> None:
    counted, slot = Counted(values(32, 6)), Slot()
    source = MixedRows(counted, 0, 32, rotation(32, 32), slot)
    for start in range(0, 32, 4):
        source.rows(start, start + 4)
    assert counted.read == 32
    MixedRows(ArraySource(values(32, 6)), 0, 32, rotation(32, 32), slot).rows(0, 4)
    source.rows(0, 4)
    assert counted.read == 64


def test_what_a_slot_gives_is_the_callers_own() -> None:
    source = MixedRows(ArraySource(values(8, 3)), 0, 8, rotation(8, 8), Slot())
    before = source.rows(0, 8)
    source.rows(0, 8)[:] = 0
    np.testing.assert_array_equal(source.rows(0, 8), before)


def test_mapped_and_scaled_rows() -> None:
    w = values(10, 24)
    turned = rotation(24, 24)
    mapped = MappedRows(ArraySource(w), turned)
    np.testing.assert_array_equal(mapped.rows(3, 7), turned.apply(w)[3:7])
    factors_ = np.array([2, 0.5, 4], np.float32)
    scaled = ScaledRows(ArraySource(w), 4, factors_)
    expected = w.copy()
    expected[4:7] *= factors_[:, None]
    for start, stop in [(0, 10), (0, 4), (5, 6), (6, 10), (8, 9)]:
        np.testing.assert_array_equal(scaled.rows(start, stop), expected[start:stop])
    bias = ScaledRows(ArraySource(w[:, 0]), 4, factors_)
    np.testing.assert_array_equal(bias.rows(0, 10), expected[:, 0])


def test_mixing_holds_one_tensor_and_a_panel() -> None:
    w = values(1536, 2048)  # 12.6 MB
    source = MixedRows(ArraySource(w), 0, 1536, rotation(1536, 1536), Slot())
    tracemalloc.start()
    source.rows(0, 16)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < w.nbytes + (72 << 20)


@pytest.mark.parametrize("order", [12, 20])
def test_dense_factors_act_from_the_right_side(order: int) -> None:
    """Paley's first matrices are not symmetric: the transpose would show."""
    turned = rotation(order, order, seed=None)
    first = np.zeros((1, order), np.float32)
    first[0, 1] = 1
    np.testing.assert_allclose(turned.apply(first)[0], dense(order)[1] / np.sqrt(order), rtol=1e-6)
