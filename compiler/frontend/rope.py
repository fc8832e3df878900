"""RoPE tables cos and sin f32[S, R / 2], as transformers computes them in float32; R of a head's D values are turned.

Every rounding is explicit: + - * / are IEEE float32; powers, cosines and sines are rounded to float32 once
(rounded.py), so that neither a vector unit's approximation nor a C library's last bit enters an archive.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from hearth.compiler.frontend.rope_config import RopeConfig, RopeKind
from hearth.compiler.frontend.rounded import COS, SIN, Function, power_of

F32 = NDArray[np.float32]
FASTEST = 1e30  # times the longest context still is an f32
MAX_HEAD_DIM = 1 << 16
BLOCK = 256  # positions per step: Python floats never pile up


def inverse_frequencies(rope: RopeConfig, head_dim: int, context: int) -> F32:
    """f[R / 2] = 1 / theta^(2 i / R) of the R values that are turned, scaled by the rules of the rope kind."""
    turned = rope.turned(head_dim)
    exponents = np.arange(0, turned, 2, dtype=np.float32) / np.float32(turned)
    powers = power_of(rope.theta)(exponents.tolist())
    with np.errstate(
        over="ignore"
    ):  # an absurd factor gives infinities, which the config check refuses
        return _SCALINGS[rope.kind](rope, powers, context)


def are_usable(rope: RopeConfig, head_dim: int, context: int) -> bool:
    """Whether every frequency is above 0, and its angle at every position finite."""
    if head_dim > MAX_HEAD_DIM:
        return True  # the tensors' shapes will tell
    with np.errstate(all="ignore"):
        frequencies = inverse_frequencies(rope, head_dim, context)
    return bool(np.all((frequencies > 0) & (frequencies < FASTEST)))


def _default(rope: RopeConfig, powers: F32, context: int) -> F32:
    return np.asarray(np.float32(1) / powers, np.float32)


def _linear(rope: RopeConfig, powers: F32, context: int) -> F32:
    """f / factor: positions are interpolated; Chen et al. 2023, arXiv:2306.15595."""
    return np.asarray(_default(rope, powers, context) / np.float32(rope.factor), np.float32)


def _longrope(rope: RopeConfig, powers: F32, context: int) -> F32:
    """f / a number for each; Ding et al. 2024, arXiv:2402.13753.

    transformers chooses the numbers by the length of the text so far. Keys that are stored already would have to be
    turned anew when it grows, so here the context that is compiled chooses them, for all its texts.
    """
    divisors = rope.long if rope.is_long(context) else rope.short
    return np.asarray(np.float32(1) / (np.asarray(divisors, np.float32) * powers), np.float32)


def _llama3(rope: RopeConfig, powers: F32, context: int) -> F32:
    """Llama 3.1 (arXiv:2407.21783; transformers `_compute_llama3_parameters`): by wavelength 2 pi / f,

    short ones (below original / high) stay, long ones (above original / low) become f / factor, between the
    two s = (original / wavelength - low) / (high - low) blends: (1 - s) * f / factor + s * f.
    """
    plain, one, factor = _default(rope, powers, context), np.float32(1), np.float32(rope.factor)
    low, high = rope.low_freq_factor, rope.high_freq_factor
    wavelength = np.float32(2 * math.pi) / plain
    slow = np.asarray(plain / factor, np.float32)
    turns = np.float32(rope.original_context) / wavelength
    blend = (turns - np.float32(low)) / np.float32(high - low)
    smooth = (one - blend) * plain / factor + blend * plain
    is_long = wavelength > np.float32(rope.original_context / low)
    is_short = wavelength < np.float32(rope.original_context / high)
    return np.asarray(np.where(is_long, slow, np.where(is_short, plain, smooth)), np.float32)


_SCALINGS: dict[RopeKind, Callable[[RopeConfig, F32, int], F32]] = {
    RopeKind.DEFAULT: _default,
    RopeKind.LINEAR: _linear,
    RopeKind.LLAMA3: _llama3,
    RopeKind.LONGROPE: _longrope,
}


@dataclass(frozen=True, eq=False)
class RopeTable:
    """A lazy source f32[S, R / 2] of `function`(position * frequency) * magnitude, computed once when first read."""

    rope: RopeConfig
    context: int
    head_dim: int
    function: Function
    stored: str = "f32"

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.context, self.rope.turned(self.head_dim) // 2)

    def rows(self, start: int, stop: int) -> F32:
        return self._table[start:stop].copy()

    @cached_property
    def _table(self) -> F32:
        frequencies = inverse_frequencies(self.rope, self.head_dim, self.context)
        table = np.empty(self.shape, np.float32)
        for start in range(0, self.context, BLOCK):
            stop = min(start + BLOCK, self.context)
            positions = np.arange(start, stop, dtype=np.float32)
            angles = (positions[:, None] * frequencies).reshape(-1).tolist()
            table[start:stop] = self.function(angles).reshape(stop - start, -1)
        return np.asarray(table * np.float32(self.rope.magnitude), np.float32)


def rope_tables(rope: RopeConfig, context: int, head_dim: int) -> tuple[RopeTable, RopeTable]:
    """(cos, sin)."""
    cos, sin = (RopeTable(rope, context, head_dim, f) for f in (COS, SIN))
    return cos, sin
