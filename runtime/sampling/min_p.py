"""Min-p (Nguyen et al. 2024, as transformers defines it)."""

from __future__ import annotations

from hearth.runtime.sampling.scores import Scores, only
from hearth.runtime.sampling.weights import ONE, weights


def min_p(scores: Scores, share: float) -> Scores:
    """Keep what is at least `share` times as probable as the best."""
    return only(scores, weights(scores) >= share * ONE)
