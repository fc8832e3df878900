"""Temperature: above 1 flatter, below 1 sharper."""

from __future__ import annotations

import numpy as np

from hearth.runtime.sampling.scores import Scores


def temperature(scores: Scores, value: float) -> Scores:
    """(scores - best) / value: the best is moved to 0, so that no value overflows (1 does no more than that)."""
    with np.errstate(over="ignore"):
        scaled: Scores = (scores - scores.max()) / value
    return scaled
