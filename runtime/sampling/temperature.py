"""Temperature: above 1 flatter, below 1 sharper."""

from __future__ import annotations

import numpy as np

from hearth.runtime.sampling.scores import Scores


def temperature(scores: Scores, value: float) -> Scores:
    """scores / value; the best score is moved to 0 first, so that no value overflows."""
    with np.errstate(over="ignore"):
        scaled: Scores = (scores - scores.max()) / value
    return scaled
