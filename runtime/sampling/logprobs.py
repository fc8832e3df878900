"""Log probabilities as OpenAI gives them: natural logs of the softmax of the raw logits."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from hearth.runtime import native
from hearth.runtime.sampling.weights import ONE

_LN2 = 0.6931471805599453


def top_logprobs(
    logits: NDArray[np.float32], token: int, count: int
) -> tuple[float, tuple[tuple[int, float], ...]]:
    """Of the token, and of the `count` best ones: best first, equal ones by the lower id."""
    best, weight = native.ranked(logits, min(max(count, 1), len(logits)))
    values = _logprobs(logits, (token, *best[:count]), best[0], weight)
    return values[0], tuple(zip(best[:count], values[1:], strict=True))


def logprobs(logits: NDArray[np.float32], tokens: Sequence[int]) -> tuple[float, ...]:
    """Of some tokens; at most 0."""
    (best,), weight = native.ranked(logits, 1)
    return _logprobs(logits, tokens, best, weight)


def log_sum(logits: NDArray[np.float32]) -> float:
    """The log of the sum of e^(logit - best)."""
    return log(native.ranked(logits, 0)[1] / ONE)


def _logprobs(
    logits: NDArray[np.float32], tokens: Sequence[int], best: int, weight: int
) -> tuple[float, ...]:
    total, most = log(weight / ONE), float(logits[best])
    return tuple(float(logits[token]) - most - total for token in tokens)


def log(x: float) -> float:
    """ln x for x >= 1 within a few units in the last place, the same bits on every host (a library's are not).

    2^n m with m in [0.75, 1.5): ln m = 2 artanh((m - 1) / (m + 1)), its series.
    """
    m, n = math.frexp(x)
    if m < 0.75:
        m, n = 2 * m, n - 1
    s = (m - 1) / (m + 1)  # at most 1/5
    total = 0.0
    for power in range(25, 0, -2):
        total = total * (s * s) + 1 / power
    return n * _LN2 + 2 * s * total
