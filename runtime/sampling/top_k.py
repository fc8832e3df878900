"""Top-k (Fan et al. 2018, as transformers defines it)."""

from __future__ import annotations

import numpy as np

from hearth.runtime.sampling.scores import Scores, only


def top_k(scores: Scores, count: int) -> Scores:
    """Keep the scores not below the count-th best: all that equal it, too."""
    if count >= len(scores):
        return scores
    return only(scores, scores >= np.partition(scores, -count)[-count])
