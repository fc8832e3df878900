"""Ranges of static codes: what a histogram counts, and the codes that each kind of range gives."""

from __future__ import annotations

import numpy as np
import pytest

from hearth.compiler.ir import arithmetic
from hearth.compiler.ir.types import Static
from hearth.compiler.quantize.ranges import (
    BINS,
    RANGES,
    Histogram,
    least_squares,
    percentile,
    static,
    static_of,
)

NAMES = list(RANGES)


def counted(*arrays: np.ndarray) -> Histogram:
    made = Histogram()
    for each in arrays:
        made.add(each.astype(np.float32))
    return made


def error(values: np.ndarray, codes: Static) -> float:
    rows = values.astype(np.float32)[None]
    back = arithmetic.dequantise_static(arithmetic.quantize_static(rows, codes), codes)
    return float(((back - rows).astype(np.float64) ** 2).sum())


def test_order_and_splits_change_nothing() -> None:
    values = np.random.default_rng(0).standard_t(2, 5000).astype(np.float32)
    whole = counted(values)
    pieces = counted(*np.array_split(np.sort(values), 7))
    other = counted(*np.array_split(values[::-1], 3))
    for each in (pieces, other):
        np.testing.assert_array_equal(each.counts, whole.counts)
        assert (each.edge, each.low, each.high) == (whole.edge, whole.low, whole.high)
    assert whole.counts.sum() == 5000
    assert whole.edge / 2 <= np.abs(values).max() < whole.edge


def test_bins_hold_what_they_say() -> None:
    values = np.random.default_rng(1).uniform(-3, 3, 2000).astype(np.float32)
    made = counted(values)
    edges = np.linspace(-made.edge, made.edge, BINS + 1)
    np.testing.assert_array_equal(made.counts, np.histogram(values, edges)[0])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_refused(name: str, bad: float) -> None:
    with pytest.raises(ValueError, match="not finite"):
        static(np.array([1.0, bad], np.float32), name)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", [0.0, 1e-30, 1e-44, -1e-44, 3.25, -7.5, 3e38, -3e38])
def test_constants(name: str, value: float) -> None:
    values = np.full(100, value, np.float32)
    codes = static(values, name)
    back = arithmetic.dequantise_static(arithmetic.quantize_static(values[None], codes), codes)
    step = codes.scale * (1 if name == "minmax" else 4)
    assert np.abs(back - values).max() <= max(step, abs(value) * 0.01)


@pytest.mark.parametrize("name", NAMES)
def test_nothing_seen_is_still_a_code(name: str) -> None:
    assert static(np.zeros((0, 4), np.float32), name) == Static(1.0)


@pytest.mark.parametrize("name", NAMES)
def test_one_sided_values_use_all_codes(name: str) -> None:
    values = np.abs(np.random.default_rng(2).standard_normal(4000)).astype(np.float32)
    up, down = static(values, name), static(-values, name)
    assert (up.zero, down.zero) == (-127, 127)
    assert up.scale == down.scale


def test_minmax_clips_nothing() -> None:
    values = np.random.default_rng(3).standard_normal(3000).astype(np.float32) * 5 - 2
    codes = static(values, "minmax")
    back = arithmetic.dequantise_static(arithmetic.quantize_static(values[None], codes), codes)
    assert np.abs(back - values).max() <= codes.scale * 1.0001
    assert codes.scale == np.float32((values.max() - values.min()) / 254)


def test_percentile_leaves_out_the_tails() -> None:
    values = np.random.default_rng(4).standard_normal(100_000).astype(np.float32)
    values[:4] = 1000, 2000, -3000, 900
    low, high = percentile(counted(values), 1e-3)
    width = 2 * 4096 / BINS
    assert abs(low - np.quantile(values, 1e-3)) <= width
    assert abs(high - np.quantile(values, 1 - 1e-3)) <= width


@pytest.mark.parametrize("shape", ["normal", "student", "lopsided", "outlier"])
def test_least_squares_loses_least(shape: str) -> None:
    rng = np.random.default_rng(5)
    values = {
        "normal": lambda: rng.standard_normal(20_000),
        "student": lambda: rng.standard_t(3, 20_000),
        "lopsided": lambda: rng.exponential(1, 20_000) - 0.3,
        "outlier": lambda: np.append(rng.standard_normal(20_000), 40.0),
    }[shape]().astype(np.float32)
    found = error(values, static(values, "least-squares"))
    for name in ("minmax", "percentile"):
        assert found <= error(values, static(values, name)) * 1.02
    low, high = least_squares(counted(values))
    assert values.min() <= low < 0 < high <= values.max()
    for down, up in ((1.2, 1), (1 / 1.2, 1), (1, 1.2), (1, 1 / 1.2)):  # neighbours of the best
        assert found <= error(values, static_of(low * down, high * up)) * 1.02


def test_zero_is_exact() -> None:
    for low, high in ((-1.0, 3.0), (0.5, 0.9), (-7.0, -2.0), (-1e-3, 1e3)):
        codes = static_of(low, high)
        assert arithmetic.quantize_static(np.zeros((1, 1), np.float32), codes)[0, 0] == codes.zero
        assert codes.scale * (-127 - codes.zero) <= min(low, 0.0) + codes.scale * 0.50001
        assert codes.scale * (127 - codes.zero) >= max(high, 0.0) - codes.scale * 0.50001


@pytest.mark.parametrize(
    ("scale", "zero"), [(0.0, 0), (np.nan, 0), (0.1, 0), (1.0, 128), (2.0**126, 0)]
)
def test_impossible_codes_are_refused(scale: float, zero: int) -> None:
    with pytest.raises(ValueError):
        Static(scale, zero)
