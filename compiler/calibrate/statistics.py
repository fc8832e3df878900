"""What coding wants to know of a linear's input."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]
CHUNK = 2048  # rows of one product


def hessian(x: F32) -> F32:
    """H[K, K] = mean over the rows of x[T, K] of x^T x, in float32, chunk by chunk; symmetric."""
    rows, k = x.shape
    total = np.zeros((k, k), np.float32)
    for start in range(0, rows, CHUNK):
        part = x[start : start + CHUNK]
        total += part.T @ part  # one operand twice: half the work, and the same bits on both sides
    total /= np.float32(rows)
    return total


def largest(x: F32) -> F32:
    """max |x[:, k]|: f32[K]."""
    found = np.zeros(x.shape[1], np.float32)
    for start in range(0, x.shape[0], CHUNK):
        part = x[start : start + CHUNK]
        np.maximum(found, np.maximum(part.max(axis=0), -part.min(axis=0)), out=found)
    return found
