"""One token of what is left: the best, or one drawn by its probability."""

from __future__ import annotations

import numpy as np

from hearth.runtime.sampling.scores import Scores
from hearth.runtime.sampling.seeds import BITS
from hearth.runtime.sampling.weights import weights


def greedy(scores: Scores) -> int:
    """The best score; among equal ones the lowest id."""
    return int(np.argmax(scores))


def draw(scores: Scores, number: int) -> int:
    """Token i with probability softmax(scores)[i], by a number of [0, 2^53).

    The first token, by id, at which the weights so far exceed number / 2^53 of their sum.
    """
    so_far = np.cumsum(weights(scores))
    return int(np.searchsorted(so_far, number * int(so_far[-1]) >> BITS, side="right"))
