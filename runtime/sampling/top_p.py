"""Top-p, the nucleus (Holtzman et al. 2019, as transformers defines it)."""

from __future__ import annotations

import numpy as np

from hearth.runtime.sampling.scores import Scores, only
from hearth.runtime.sampling.weights import reached, weights


def top_p(scores: Scores, share: float) -> Scores:
    """Keep a score where the probabilities of all better ones (equal ones: lower ids) add up to less than `share`."""
    weight = weights(scores)
    order = np.argsort(-scores, kind="stable")
    before = np.cumsum(weight[order]) - weight[order]
    kept = np.zeros(len(scores), bool)
    kept[order[before < reached(share, int(weight.sum()))]] = True
    return only(scores, kept)
