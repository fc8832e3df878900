"""Which tokens were there, and how often: what penalties look at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hearth.runtime.sampling.scores import Ids


@dataclass(frozen=True)
class Seen:
    """Distinct tokens of the window, and those of the answer in it with their counts."""

    tokens: Ids
    answer: Ids
    counts: Ids  # of `answer`


NOTHING_SEEN = Seen(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.int64))


def look_back(tokens: Sequence[int], prompt: int, window: int) -> Seen:
    """Over the last `window` of prompt and answer (0: all); the first `prompt` tokens are the prompt."""
    first = max(len(tokens) - window, 0) if window else 0
    answer, counts = np.unique(np.array(tokens[max(first, prompt) :], np.int64), return_counts=True)
    return Seen(np.unique(np.array(tokens[first:], np.int64)), answer, counts.astype(np.int64))
