"""Typical-p (Meister et al. 2022, as transformers defines it)."""

from __future__ import annotations

import numpy as np

from hearth.runtime.sampling.scores import REMOVED, Scores, only
from hearth.runtime.sampling.weights import reached, weights


def typical_p(scores: Scores, share: float) -> Scores:
    """Keep those whose surprise -log p is nearest to the entropy, as many as reach `share`, ties too.

    |-log p - H| is |x - E x| with x = score - best: the log of the sum is in both and goes away.
    """
    weight = weights(scores)
    total = int(weight.sum())
    x = np.where(weight > 0, scores - scores.max(), 0.0)
    mean = float(np.rint(weight * x).astype(np.int64).sum()) / float(total)
    away = np.where(scores > REMOVED, np.abs((scores - scores.max()) - mean), np.inf)
    order = np.argsort(away, kind="stable")
    last = order[np.searchsorted(np.cumsum(weight[order]), reached(share, total))]
    return only(scores, away <= away[last])
