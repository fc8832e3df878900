"""The numbers that processors change: float64, one per token of the vocabulary, REMOVED where it must not come."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.float64]
Ids = NDArray[np.int64]

REMOVED = -math.inf  # the score of a token that must not be chosen


def only(scores: Scores, kept: NDArray[np.bool_]) -> Scores:
    """The scores where `kept`, REMOVED elsewhere."""
    return np.where(kept, scores, REMOVED)
