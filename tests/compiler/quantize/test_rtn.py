"""Round to nearest: the native search equals the numpy definition, and is as good as it claims."""

from __future__ import annotations

import numpy as np
import pytest

from hearth.compiler.ir.tensors import F32, QuantisedRows
from hearth.compiler.quantize.rtn import reference_int4, reference_int8, rtn
from hearth.compiler.quantize.schemes import INT4_G32, INT4_G64, INT4_G128, INT8, WeightScheme

SCHEMES = (INT4_G32, INT4_G64, INT4_G128, INT8)
SHAPES = {"one": (1, 1), "tail_k": (33, 172), "tail_n": (17, 128), "odd": (7, 70), "wide": (3, 640)}


def _weights(shape: tuple[int, int], seed: int = 0) -> F32:
    rng = np.random.default_rng([seed, *shape])
    heavy = rng.standard_t(4, shape) * rng.lognormal(0, 0.6, (1, shape[1]))
    return heavy.astype(np.float32)


def _equal(left: QuantisedRows, right: QuantisedRows) -> None:
    assert np.array_equal(left.codes, right.codes)
    assert np.array_equal(left.scale, right.scale)
    if left.multipliers is not None and right.multipliers is not None:
        assert np.array_equal(left.multipliers, right.multipliers)
    assert (left.multipliers is None) == (right.multipliers is None)
    assert left.group == right.group


def _reference(weights: F32, scheme: WeightScheme) -> QuantisedRows:
    if scheme.bits == 8:
        return reference_int8(weights)
    return reference_int4(weights, scheme.group)


@pytest.mark.parametrize("scheme", SCHEMES, ids=lambda s: f"{s.name}g{s.group}")
@pytest.mark.parametrize("name", SHAPES)
def test_native_equals_the_definition(scheme: WeightScheme, name: str) -> None:
    weights = _weights(SHAPES[name])
    for threads in (1, 2, 3):
        _equal(rtn(weights, scheme, threads), _reference(weights, scheme))


@pytest.mark.parametrize("scheme", SCHEMES, ids=lambda s: f"{s.name}g{s.group}")
def test_extreme_rows(scheme: WeightScheme) -> None:
    """Zeros, zero groups, tiny and huge magnitudes, one outlier, constant rows."""
    weights = _weights((12, 256), 1)
    weights[0] = 0
    weights[1, :128] = 0
    weights[2] = 1e-35
    weights[3] *= 1e-28
    weights[4] *= np.float32(1e15)
    weights[5, 7] = 1000
    weights[6] = -3
    weights[7] = 2.5
    weights[8, 1:] = 0
    weights[9, 0] = 1e-42
    rows = rtn(weights, scheme)
    _equal(rows, _reference(weights, scheme))
    assert not rows.codes[0].any()
    assert rows.scale[0] == 0
    assert not rows.codes[2].any()
    assert np.isfinite(rows.scale).all()
    _in_range(rows)
    for row in (6, 7, 8):
        assert np.allclose(rows.dequantise()[row], weights[row], rtol=0.03)


def _in_range(rows: QuantisedRows) -> None:
    if rows.multipliers is None:
        assert np.abs(rows.codes.astype(int)).max() <= 127
        return
    assert rows.codes.min() >= -8
    assert rows.codes.max() <= 7
    assert np.abs(rows.multipliers.astype(int)).max() <= 15


def test_rows_are_independent() -> None:
    """Row ranges of any size give what the whole gives: sources may be read in any batches."""
    weights = _weights((40, 96))
    for scheme in (INT4_G32, INT8):
        whole = rtn(weights, scheme)
        for start, stop in ((0, 1), (3, 20), (16, 40), (39, 40)):
            part = rtn(weights[start:stop], scheme)
            assert np.array_equal(part.codes, whole.codes[start:stop])
            assert np.array_equal(part.scale, whole.scale[start:stop])


def test_int8_error_is_within_half_a_step() -> None:
    """Where nothing is clipped, |w - dequantised| <= scale / 2 (and the rounding of the product)."""
    weights = np.random.default_rng(0).uniform(-1, 1, (20, 300)).astype(np.float32)
    rows = rtn(weights, INT8)
    inside = np.abs(weights) <= 127 * rows.scale[:, None]
    error = np.abs(rows.dequantise() - weights)
    assert (
        error[inside] <= np.broadcast_to(rows.scale[:, None], error.shape)[inside] * 0.5001
    ).all()


def test_int4_is_no_worse_than_its_plain_form() -> None:
    """The search beats maximum scaling: multiplier = rint(step / scale) with scale = max step / 15."""
    weights = _weights((64, 512), 3)
    rows = rtn(weights, INT4_G32)
    groups = weights.reshape(64, 16, 32)
    at = np.abs(groups).argmax(axis=2)[..., None]
    step = -np.take_along_axis(groups, at, axis=2)[..., 0] / 8
    scale = np.abs(step).max(axis=1) / 15
    multipliers = np.rint(step / scale[:, None])
    used = np.where(multipliers == 0, 1, multipliers) * scale[:, None]
    codes = np.clip(np.rint(groups / used[..., None]), -8, 7) * (multipliers != 0)[..., None]
    plain = (codes * used[..., None]).reshape(64, 512)
    error = ((rows.dequantise() - weights) ** 2).sum()
    assert error < 0.95 * ((plain - weights) ** 2).sum()
