"""Coders: every method for every form; rows independent of ranges and threads; better than rounding."""

from __future__ import annotations

import numpy as np
import pytest
from support.coding import heavy, loss, products

from hearth.compiler.ir.tensors import F32, ArraySource, QuantisedRows, round_bf16
from hearth.compiler.quantize.coding import RoundedSource, coder, sample_rows
from hearth.compiler.quantize.rtn import rtn
from hearth.compiler.quantize.schemes import INT4_G32, INT8, Form, parse_methods, parse_scheme

SCHEMES = (
    "int8",
    "int4_g32",
    "int2_g32",
    "int3_g64",
    "int5_g128",
    "int6_g32",
    "nf4_g32",
    "lut4_g64",
)
METHODS = ("rtn", "importance", "gptq", "lwc", "gptq,importance", "gptq,lwc,importance")


def _coded(
    scheme: str, methods: str, weights: F32, hessian: F32 | None, threads: int = 2
) -> QuantisedRows:
    made = coder(parse_scheme(scheme), parse_methods(methods), hessian, weights, threads)
    return made.rows(weights)


def _equal(left: QuantisedRows, right: QuantisedRows) -> None:
    np.testing.assert_array_equal(left.codes, right.codes)
    np.testing.assert_array_equal(left.scale, right.scale)
    for a, b in ((left.multipliers, right.multipliers), (left.table, right.table)):
        assert (a is None) == (b is None)
        if a is not None and b is not None:
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("methods", METHODS)
@pytest.mark.parametrize("scheme", SCHEMES)
def test_rows_have_the_form_of_the_scheme(scheme: str, methods: str) -> None:
    weights, h = heavy((20, 172)), products(172)
    form = parse_scheme(scheme)
    rows = _coded(scheme, methods, weights, h)
    assert rows.codes.shape == (20, 172) and rows.scale.shape == (20,)
    assert np.isfinite(rows.scale).all() and rows.scale[2] == 0
    assert not rows.dequantise()[2].any()
    if form.form is Form.TABLE:
        assert rows.table is not None and rows.table.shape == (1 << form.bits,)
        assert rows.codes.min() >= 0 and rows.codes.max() < 1 << form.bits
        np.testing.assert_array_equal(rows.scale, round_bf16(rows.scale))
    else:
        assert rows.table is None
        assert np.abs(rows.codes.astype(int)).max() <= 127
    if form.group:
        assert rows.multipliers is not None
        assert rows.multipliers.shape == (20, -(-172 // form.group))
        most = 15 if form.form is Form.INTEGER else 127
        assert np.abs(rows.multipliers.astype(int)).max() <= most
        assert form.form is Form.TABLE or (rows.codes.min() >= -8 and rows.codes.max() <= 7)
    else:
        assert rows.multipliers is None
    _equal(rows, _coded(scheme, methods, weights, h, 5))


@pytest.mark.parametrize("methods", METHODS)
@pytest.mark.parametrize("scheme", ["int8", "int4_g64", "int3_g32"])
def test_rows_are_independent(scheme: str, methods: str) -> None:
    weights, h = heavy((40, 96)), products(96)
    made = coder(parse_scheme(scheme), parse_methods(methods), h, weights, 2)
    whole = made.rows(weights)
    for start, stop in ((0, 1), (3, 37), (39, 40)):
        part = made.rows(weights[start:stop])
        np.testing.assert_array_equal(part.codes, whole.codes[start:stop])
        np.testing.assert_array_equal(part.scale, whole.scale[start:stop])


@pytest.mark.parametrize("scheme", SCHEMES)
def test_methods_lower_the_error_of_the_layer(scheme: str) -> None:
    weights, h = heavy((60, 256)), products(256)
    plain, weighed, clipped, fed, both = (
        loss(weights, _coded(scheme, methods, weights, h).dequantise(), h)
        for methods in ("rtn", "importance", "lwc", "gptq", "gptq,lwc")
    )
    assert weighed < plain
    assert clipped < weighed
    assert fed < 0.6 * plain
    assert both <= fed * 1.001


def test_plain_integers_are_those_of_rtn() -> None:
    weights = heavy((20, 172))
    for scheme, name in ((INT8, "int8"), (INT4_G32, "int4_g32")):
        for hessian in (None, products(172)):
            _equal(_coded(name, "rtn", weights, hessian), rtn(weights, scheme, 1))
        _equal(_coded(name, "gptq,lwc", weights, None), rtn(weights, scheme, 1))


@pytest.mark.parametrize("scheme", SCHEMES)
def test_extreme_rows(scheme: str) -> None:
    weights = heavy((12, 256), 1)
    weights[0] = 0
    weights[1, :128] = 0
    weights[3] *= np.float32(1e-28)
    weights[4] *= np.float32(1e30)
    weights[5, 7] = 1000
    weights[6] = -3
    weights[8, 1:] = 0
    weights[9] = 0
    weights[9, 0] = 1e-42
    for methods in METHODS:
        rows = _coded(scheme, methods, weights, products(256))
        assert np.isfinite(rows.dequantise()).all()
        assert not rows.dequantise()[[0, 9]].any()
        assert np.abs(rows.dequantise()[3]).max() > 0
    for bad in (np.nan, np.inf):
        weights[11, 3] = bad
        if scheme not in (
            "int8",
            "int4_g32",
        ):  # plain rounding of those is refused where they are read
            with pytest.raises(ValueError):
                _coded(scheme, "rtn", weights, None)
        with pytest.raises(ValueError):
            _coded(scheme, "gptq", weights, products(256))


def test_a_sample_of_rows_is_spread() -> None:
    weights = np.repeat(np.arange(5000, dtype=np.float32)[:, None], 256, axis=1)
    learned = parse_scheme("lut4_g64")
    sample = sample_rows(ArraySource(weights), learned)
    assert sample.shape == (2048, 256)
    assert sample[0, 0] == 0 and sample[-1, 0] > 4990
    assert sample_rows(ArraySource(weights[:3]), learned).shape == (3, 256)


def test_no_sample_is_read_where_no_table_is_learned() -> None:
    weights = np.ones((50, 256), np.float32)
    for name in ("int8", "int4_g32", "nf4_g32", "int6_g64"):
        assert sample_rows(ArraySource(weights), parse_scheme(name)).shape == (0, 256)


def test_a_rounded_source_codes_what_its_coder_would() -> None:
    weights = heavy((40, 96))
    for name in ("lut3_g32", "nf4_g64", "int6_g32"):
        source = RoundedSource(ArraySource(weights), parse_scheme(name))
        assert source.tabled and source.shape == (40, 96)
        assert (source.bits, source.group) == (source.scheme.bits, source.scheme.group)
        _equal(source.quantised(0, 40), _coded(name, "rtn", weights, None))
        np.testing.assert_array_equal(
            source.quantised(5, 9).codes, source.quantised(0, 40).codes[5:9]
        )
