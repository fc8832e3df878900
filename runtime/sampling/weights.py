"""Scores to weights: e^x by additions and multiplications alone, then whole numbers, whose sums are exact.

A library's exp differs in the last bit between CPUs, and sums of floats with their order; these do not.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from hearth.runtime.sampling.scores import Scores

Weights = NDArray[np.int64]

ONE = 1 << 43  # the weight of the best: the sum over 2^20 tokens fits 63 bits
_PARTS = 16  # of an octave: what is left for the series is small
_LN2_HIGH = float.fromhex("0x1.62e42feep-1") / _PARTS
_LN2_LOW = float.fromhex("0x1.a39ef35793c76p-33") / _PARTS
_EXP_SERIES = tuple(1.0 / math.factorial(term) for term in range(7, -1, -1))
# fmt: off
_POWERS = np.array([float.fromhex(power) for power in (  # 2^(i / 16), rounded
    "0x1.0000000000000p+0", "0x1.0b5586cf9890fp+0", "0x1.172b83c7d517bp+0", "0x1.2387a6e756238p+0",
    "0x1.306fe0a31b715p+0", "0x1.3dea64c123422p+0", "0x1.4bfdad5362a27p+0", "0x1.5ab07dd485429p+0",
    "0x1.6a09e667f3bcdp+0", "0x1.7a11473eb0187p+0", "0x1.8ace5422aa0dbp+0", "0x1.9c49182a3f090p+0",
    "0x1.ae89f995ad3adp+0", "0x1.c199bdd85529cp+0", "0x1.d5818dcfba487p+0", "0x1.ea4afa2a490dap+0",
)])
# fmt: on
_BLOCK = 4096  # numbers at a time: what the loop over the series reads stays in the cache


def weights(scores: Scores) -> Weights:
    """2^43 e^(score - best), rounded to the nearest (even): proportional to the probabilities.

    What is less probable than 2^-44 times the best weighs nothing.
    """
    rounded: Weights = np.rint(exp(scores - scores.max()) * float(ONE)).astype(np.int64)
    return rounded


def reached(share: float, total: int) -> int:
    """The sum of weights that makes `share` of the total; 1 at least."""
    return max(math.ceil(share * float(total)), 1)


def exp(x: Scores) -> Scores:
    """e^x for x <= 0 within a few units in the last place, the same bits on every host; 0 below -708."""
    result = np.empty_like(x)
    for start in range(0, len(x), _BLOCK):
        _exp_block(x[start : start + _BLOCK], result[start : start + _BLOCK])
    return result


def _exp_block(x: Scores, y: Scores) -> None:
    """2^(n / 16) e^r with |r| <= ln2 / 32: a table, and the Taylor series, one rounding per operation."""
    r = np.maximum(x, -708.0)
    n = np.rint(r * (_PARTS * 1.4426950408889634))
    r -= n * _LN2_HIGH
    r -= n * _LN2_LOW
    y[:] = _EXP_SERIES[0]
    for term in _EXP_SERIES[1:]:
        y *= r
        y += term
    whole = n.astype(np.int32)
    y *= _POWERS[whole % _PARTS]
    np.ldexp(y, whole // _PARTS, out=y)
    y[x < -708.0] = 0.0
