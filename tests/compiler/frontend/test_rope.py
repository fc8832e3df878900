"""RoPE tables: frequencies by an independent formula, cosines and sines correctly rounded, computed once."""

from __future__ import annotations

import math
from dataclasses import replace
from decimal import Decimal

import numpy as np
import pytest

from hearth.compiler.frontend.fields import Fields
from hearth.compiler.frontend.rope import RopeTable, inverse_frequencies, rope_tables
from hearth.compiler.frontend.rope_config import RopeConfig, RopeKind, read_rope
from hearth.compiler.frontend.rounded import Function

EPS = 2.0**-24  # relative error of one rounding to float32
LLAMA3 = RopeConfig(500000.0, RopeKind.LLAMA3, 8.0, 1.0, 4.0, 8192)
LONGROPE = RopeConfig(
    10000.0,
    RopeKind.LONGROPE,
    original_context=600,
    short=(1.0, 1.25, 1.5, 2.0),
    long=(1.0, 3.0, 9.0, 40.0),
)
CASES = {
    "llama 2": (RopeConfig(10000.0), 128),
    "qwen2": (RopeConfig(1000000.0), 128),
    "tiny head": (RopeConfig(10000.0), 2),
    "head of 6": (RopeConfig(10000.0), 6),
    "linear": (RopeConfig(10000.0, RopeKind.LINEAR, 4.0), 64),
    "llama 3.1": (LLAMA3, 128),
    "llama 3.2": (RopeConfig(500000.0, RopeKind.LLAMA3, 32.0, 1.0, 4.0, 8192), 64),
    "partial": (RopeConfig(10000.0, share=0.4), 80),
    "longrope, long": (replace(LONGROPE, original_context=599), 8),
    "longrope, short": (LONGROPE, 8),
    "llama3, short": (RopeConfig(10000.0, RopeKind.LLAMA3, 2.0, 1.0, 3.0, 32), 32),
}


def _exact(rope: RopeConfig, head_dim: int, pair: int) -> float:
    """One frequency in float64, from the definition in Meta's `apply_scaling`."""
    frequency = float(rope.theta ** (-2 * pair / rope.turned(head_dim)))
    match rope.kind:
        case RopeKind.DEFAULT:
            return frequency
        case RopeKind.LINEAR:
            return frequency / rope.factor
        case RopeKind.LONGROPE:
            return frequency / (rope.long if rope.original_context < 600 else rope.short)[pair]
    wavelength = 2 * math.pi / frequency
    if wavelength < rope.original_context / rope.high_freq_factor:
        return frequency
    if wavelength > rope.original_context / rope.low_freq_factor:
        return frequency / rope.factor
    span = rope.high_freq_factor - rope.low_freq_factor
    smooth = (rope.original_context / wavelength - rope.low_freq_factor) / span
    return (1 - smooth) * frequency / rope.factor + smooth * frequency


@pytest.mark.parametrize("case", CASES)
def test_frequencies(case: str) -> None:
    """Roundings: the exponent (amplified by ln theta), the power, the division; the blend adds at most 8

    on terms that may be `factor` times the result.
    """
    rope, head_dim = CASES[case]
    found = inverse_frequencies(rope, head_dim, 600)
    exact = np.array([_exact(rope, head_dim, pair) for pair in range(rope.turned(head_dim) // 2)])
    bound = (math.log(rope.theta) + 2 + 8 * rope.factor) * EPS
    assert found.dtype == np.float32
    assert found.shape == exact.shape
    assert np.all(np.abs(found - exact) <= bound * exact)


def test_llama3_has_all_three_bands() -> None:
    plain = inverse_frequencies(RopeConfig(LLAMA3.theta), 128, 600)
    ratio = plain / inverse_frequencies(LLAMA3, 128, 600)
    assert np.array_equal(np.unique(ratio[ratio == 1]), [1])
    assert np.any(ratio == 8)
    assert np.any((ratio > 1.01) & (ratio < 7.9))
    assert np.all(np.diff(ratio) >= -1e-5)


def test_linear_scaling_by_a_power_of_two_stretches_positions() -> None:
    cos, _ = rope_tables(RopeConfig(10000.0), 64, 32)
    stretched, _ = rope_tables(RopeConfig(10000.0, RopeKind.LINEAR, 4.0), 256, 32)
    assert np.array_equal(stretched.rows(0, 256)[::4], cos.rows(0, 64))


@pytest.mark.parametrize("case", CASES)
def test_tables_are_the_rounded_cosine_of_the_rounded_angle(case: str) -> None:
    rope, head_dim = CASES[case]
    angles = np.arange(600, dtype=np.float32)[:, None] * inverse_frequencies(rope, head_dim, 600)
    wide = angles.astype(np.longdouble)
    for table, exact in zip(
        rope_tables(rope, 600, head_dim), (np.cos(wide), np.sin(wide)), strict=True
    ):
        values = table.rows(0, 600)
        assert values.dtype == np.float32
        assert values.shape == table.shape == (600, rope.turned(head_dim) // 2)
        assert np.all(np.abs(values - exact) <= 2.0**-25 * (1 + 2.0**-20))


def test_a_magnitude_multiplies_the_rounded_tables() -> None:
    scaled = rope_tables(replace(LONGROPE, magnitude=1.19), 50, 8)
    for table, plain in zip(scaled, rope_tables(LONGROPE, 50, 8), strict=True):
        assert table.rows(0, 50).dtype == np.float32
        assert np.array_equal(table.rows(0, 50), plain.rows(0, 50) * np.float32(1.19))


def test_the_magnitude_that_follows_from_the_contexts() -> None:
    """Of Phi-3-mini-128k: sqrt(1 + ln 32 / ln 4096)."""
    values = {
        "max_position_embeddings": 131072,
        "original_max_position_embeddings": 4096,
        "rope_scaling": {"type": "longrope", "short_factor": [1.0], "long_factor": [2.0]},
    }
    found = read_rope(Fields(values, "config.json"), 2)
    assert found.magnitude == pytest.approx(math.sqrt(1 + 5 / 12), rel=1e-15)


def test_rows_are_slices_of_one_table_computed_once() -> None:
    calls = []

    def count(angle: float) -> float:
        calls.append(angle)
        return angle

    table = RopeTable(RopeConfig(10000.0), 300, 4, Function(count, Decimal))
    assert not calls
    whole = table.rows(0, 300)
    assert np.array_equal(table.rows(250, 260), whole[250:260])
    assert len(calls) == 600
    table.rows(0, 1)[...] = 9
    assert np.array_equal(table.rows(0, 300), whole)
