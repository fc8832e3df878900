"""Round to nearest, clipped by least squares; the numpy definition of what runtime/kernels/quantise computes.

int4 codes a channel as code * multiplier * scale: code in -8..7, a signed multiplier |m| <= 15 per group, one
float scale. All arithmetic is float32, one rounding per operation, sums in the order of k and of groups, so
that the native search gives the same bits on every host. docs/quantisation.md has the reasons,
docs/quantisation-results.md the figures.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from hearth.compiler.ir.tensors import F32, QuantisedRows
from hearth.compiler.quantize.schemes import WeightScheme
from hearth.runtime import native

Mask = NDArray[np.bool_]

MAX_MULTIPLIER = 15
STEP_FACTORS = tuple(np.float32(f) for f in (1, 0.95, 0.9, 0.85, 0.8, 0.75, 0.7, 0.65))
SCALE_FACTORS = tuple(
    np.float32(f) for f in (1, 0.8, 0.85, 0.9, 0.95, 1.05, 1.1, 1.15, 1.2, 1.3, 1.4, 1.5)
)
CLIP_FACTORS = tuple(np.float32(f) for f in (1, 0.95, 0.9, 0.85, 0.8))
ROUNDS = 3
ZERO = np.float32(2.0**-100)  # a channel whose largest magnitude is below is stored as zeros


def rtn(weights: F32, scheme: WeightScheme, threads: int = 0) -> QuantisedRows:
    """Quantise rows [N, K], natively; threads = 0 means all cores. The result does not depend on it."""
    n, k = weights.shape
    weights = np.ascontiguousarray(weights, np.float32)
    codes = np.empty((n, k), np.int8)
    scale = np.empty(n, np.float32)
    threads = threads or len(os.sched_getaffinity(0))
    if scheme.bits == 8:
        native.rtn_int8(weights, codes, scale, threads)
        return QuantisedRows(codes, None, scale, 0)
    multipliers = np.empty((n, -(-k // scheme.group)), np.int8)
    native.rtn_int4(weights, scheme.group, codes, multipliers, scale, threads)
    return QuantisedRows(codes, multipliers, scale, scheme.group)


def reference_int4(weights: F32, group: int) -> QuantisedRows:
    """What native.rtn_int4 computes, in numpy."""
    n, k = weights.shape
    w = np.zeros((n, -(-k // group) * group), np.float32)
    w[:, :k] = weights
    w = w.reshape(n, -1, group)
    with np.errstate(all="ignore"):
        steps = _best_steps(w)
        peak = np.abs(steps).max(axis=1)
        zero = np.abs(w).max(axis=(1, 2)) < ZERO
        base = np.where(zero, np.float32(1), peak / np.float32(MAX_MULTIPLIER))
        multipliers, scale = _refine(w, steps, _best_scale(w, steps, base))
        codes = _codes(w, multipliers, scale)
    multipliers[zero], scale[zero], codes[zero] = 0, 0, 0
    return QuantisedRows(
        np.ascontiguousarray(codes.reshape(n, -1)[:, :k]).astype(np.int8),
        multipliers.astype(np.int8),
        scale,
        group,
    )


def reference_int8(weights: F32) -> QuantisedRows:
    """What native.rtn_int8 computes, in numpy."""
    peak = np.abs(weights).max(axis=1)
    zero = peak < ZERO
    base = np.where(zero, np.float32(1), peak / np.float32(127))
    best, scale = np.full_like(base, np.inf), base
    with np.errstate(over="ignore"):
        for factor in CLIP_FACTORS:
            trial = base * factor
            error = _error(weights, trial, -127, 127)
            scale, best = np.where(error < best, trial, scale), np.minimum(error, best)
    codes = _rounded(weights, scale[:, None], -127, 127)
    codes[zero], scale[zero] = 0, 0
    return QuantisedRows(codes.astype(np.int8), None, scale, 0)


def _rounded(w: F32, step: F32, low: int, high: int) -> F32:
    inverse = np.float32(1) / step
    return np.asarray(np.rint(np.clip(w * inverse, low, high)), np.float32)


def _in_order(terms: F32) -> F32:
    """Sums over the last axis, one term after the other."""
    total = np.zeros(terms.shape[:-1], np.float32)
    for index in range(terms.shape[-1]):
        total = total + terms[..., index]
    return total


def _error(w: F32, step: F32, low: int = -8, high: int = 7) -> F32:
    """Squared error of each group under its step."""
    rest = w - _rounded(w, step[..., None], low, high) * step[..., None]
    return _in_order(rest * rest)


def _best_steps(w: F32) -> F32:
    """The signed step of each group with the least squared error, on a grid: the peak falls on code -8 or beyond."""
    at = np.abs(w).argmax(axis=-1)[..., None]
    peak = np.take_along_axis(w, at, axis=-1)[..., 0]
    peak = np.where(np.abs(peak) < ZERO, np.float32(0), peak)
    full = peak * np.float32(-0.125)
    best, chosen = np.full_like(full, np.inf), full
    for factor in STEP_FACTORS:
        for step in (full * factor, full * -factor):
            error = _error(w, step)
            chosen = np.where(error < best, step, chosen)
            best = np.where(error < best, error, best)
    return chosen


def _nearest(steps: F32, scale: F32) -> F32:
    return np.asarray(
        np.rint(np.clip(steps / scale[:, None], -MAX_MULTIPLIER, MAX_MULTIPLIER)), np.float32
    )


def _multiplier_error(w: F32, multipliers: F32, scale: F32, energy: F32) -> F32:
    error = _error(w, multipliers * scale[:, None])
    return np.where(multipliers == 0, energy, error)


def _best_scale(w: F32, steps: F32, base: F32) -> F32:
    """The channel scale whose multiples come nearest to what the groups want, by squared error of the channel."""
    energy = _in_order(w * w)
    best, chosen = np.full_like(base, np.inf), base
    for factor in SCALE_FACTORS:
        scale = base * factor
        error = _in_order(_multiplier_error(w, _nearest(steps, scale), scale, energy))
        chosen, best = np.where(error < best, scale, chosen), np.minimum(error, best)
    return chosen


def _candidates(nearest: F32) -> Iterator[F32]:
    for sign in (1, -1):
        for offset in (-1, 0, 1):
            moved = nearest * np.float32(sign) + np.float32(offset)
            yield np.clip(moved, -MAX_MULTIPLIER, MAX_MULTIPLIER)


def _codes(w: F32, multipliers: F32, scale: F32) -> F32:
    codes = _rounded(w, (multipliers * scale[:, None])[..., None], -8, 7)
    return np.where(multipliers[..., None] == 0, np.float32(0), codes)


def _refine(w: F32, steps: F32, scale: F32) -> tuple[F32, F32]:
    """Alternate the best multipliers under a scale and the least-squares scale under the codes; keep the best."""
    energy = _in_order(w * w)
    best = np.full_like(scale, np.inf)
    kept, kept_scale = np.zeros_like(steps), scale
    for _ in range(ROUNDS):
        least, chosen = np.full_like(steps, np.inf), np.zeros_like(steps)
        nearest = _nearest(steps, scale)
        for multipliers in _candidates(nearest):
            error = _multiplier_error(w, multipliers, scale, energy)
            chosen, least = np.where(error < least, multipliers, chosen), np.minimum(error, least)
        error = _in_order(least)
        better = error < best
        kept, kept_scale = (
            np.where(better[:, None], chosen, kept),
            np.where(better, scale, kept_scale),
        )
        best = np.minimum(error, best)
        values = _codes(w, chosen, scale) * chosen[..., None]
        scale = _least_squares(
            _in_order(_in_order(w * values)), _in_order(_in_order(values * values)), scale
        )
    return kept, kept_scale


def _least_squares(product: F32, square: F32, scale: F32) -> F32:
    return np.where(product > 0, product / square, scale)
