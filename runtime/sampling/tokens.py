"""Tokens by name: biased, banned, or not allowed by a constraint."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hearth.runtime.sampling.scores import REMOVED, Ids, Scores, only


def logit_bias(scores: Scores, tokens: Ids, bias: Scores) -> Scores:
    """Each token's bias is added to its score (OpenAI; transformers' sequence_bias of one token)."""
    biased = scores.copy()
    biased[tokens] += bias
    return biased


def banned(scores: Scores, tokens: Ids) -> Scores:
    """These never come (transformers' suppress_tokens)."""
    rest = scores.copy()
    rest[tokens] = REMOVED
    return rest


def allowed(scores: Scores, mask: NDArray[np.uint32]) -> Scores:
    """Those whose bit is set."""
    return only(scores, permitted(mask, len(scores)))


def permitted(mask: NDArray[np.uint32], count: int) -> NDArray[np.bool_]:
    """bool[count]: bit i % 32 of word i // 32; words that lack count as 0."""
    bits = np.unpackbits(np.ascontiguousarray(mask).view(np.uint8), bitorder="little")
    kept = np.zeros(count, bool)
    kept[: len(bits)] = bits[:count]
    return kept
