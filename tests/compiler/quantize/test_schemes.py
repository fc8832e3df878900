"""Names of schemes and methods: what recipes write, and what is refused."""

from __future__ import annotations

import pytest

from hearth.compiler.quantize.schemes import (
    F16,
    F32,
    INT8,
    WEIGHT_SCHEMES,
    Form,
    Methods,
    kv_name,
    make_scheme,
    parse_methods,
    parse_scheme,
    weight_scheme,
)
from hearth.schemas.commands import KVScheme
from hearth.schemas.errors import UsageError


def test_what_is_written_is_read() -> None:
    for scheme in WEIGHT_SCHEMES:
        assert parse_scheme(scheme.written) is scheme
    assert parse_scheme("int6").written == "int6_g32"


def test_forms() -> None:
    assert not F16.quantised and F16.form is Form.FLOAT
    assert weight_scheme("int4", 128).form is Form.INTEGER
    for name, bits in (("int2", 2), ("int6", 6), ("nf4", 4), ("lut5", 5)):
        scheme = weight_scheme(name)
        assert (scheme.bits, scheme.group, scheme.form) == (bits, 32, Form.TABLE)


@pytest.mark.parametrize(
    ("written", "code"),
    [
        ("int6_g48", "usage.group_size"),
        ("int8_g32", "usage.group_size"),
        ("int6_g", "usage.weights"),
        ("_g32", "usage.weights"),
        ("", "usage.weights"),
    ],
)
def test_schemes_that_are_none(written: str, code: str) -> None:
    with pytest.raises(UsageError) as error:
        parse_scheme(written)
    assert error.value.code == code


METHODS = {
    "rtn": Methods(),
    "gptq": Methods(gptq=True),
    " quarot ,gptq": Methods(gptq=True, quarot=True),
    "importance,smoothquant": Methods(importance=True, smoothquant=True),
    "gptaq": Methods(gptq=True, gptaq=True),
    "gptq,peaks": Methods(gptq=True, peaks=True),
    "gptaq,lwc,importance,smoothquant,quarot,rotate-down,tune": Methods(*[True] * 8),
}


@pytest.mark.parametrize("text", METHODS)
def test_methods(text: str) -> None:
    methods = parse_methods(text)
    assert methods == METHODS[text]
    assert parse_methods(methods.text) == methods


def test_the_default_method_is_named() -> None:
    assert Methods().text == "rtn"
    assert Methods(quarot=True).text == "rtn,quarot"
    assert Methods(lwc=True).text == "lwc"


@pytest.mark.parametrize(
    "text", ["", "gptqq", "gptq,", "rtn,gptq", "lwc,rtn", "peaks,smoothquant", "gptq,quarot,peaks"]
)
def test_methods_that_are_none(text: str) -> None:
    with pytest.raises(UsageError) as error:
        parse_methods(text)
    assert error.value.code == "usage.method"


def test_what_needs_a_text() -> None:
    assert not make_scheme(INT8).calibrated
    assert not make_scheme(INT8, methods=Methods(quarot=True)).calibrated
    for name in ("gptq", "lwc", "importance", "smoothquant", "peaks"):
        assert make_scheme(INT8, methods=parse_methods(name)).calibrated
    for activations in ("static", "auto"):
        assert make_scheme(INT8, activations).calibrated


def test_codes_of_floats_are_refused() -> None:
    with pytest.raises(UsageError) as error:
        make_scheme(F32, "none", methods=Methods(gptq=True))
    assert error.value.code == "usage.method"
    assert make_scheme(F32, "none", embeddings=INT8, methods=Methods(gptq=True)).quantises
    with pytest.raises(UsageError) as error:
        make_scheme(F32, "static")
    assert error.value.code == "usage.activations"


def test_the_first_pattern_that_matches_wins() -> None:
    first, second = weight_scheme("int6"), weight_scheme("int5", 64)
    overrides = (("layers.0.*", first), ("layers.*.down*", second))
    scheme = make_scheme(INT8, overrides=overrides)
    assert scheme.override("layers.0.down.weight") is first
    assert scheme.override("layers.1.down.weight") is second
    assert scheme.override("layers.1.up.weight") is None


def test_names_of_caches() -> None:
    assert [kv_name(kv) for kv in (KVScheme.F32, KVScheme.F16, KVScheme.INT8)] == [
        "f32",
        "f16",
        "int8",
    ]
