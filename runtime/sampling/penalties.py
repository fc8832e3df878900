"""Penalties for tokens that were there: Hugging Face's multiplies once, OpenAI's two subtract."""

from __future__ import annotations

import numpy as np

from hearth.runtime.sampling.scores import Ids, Scores


def repetition_penalty(scores: Scores, seen: Ids, factor: float) -> Scores:
    """Tokens seen, however often: scores above 0 are divided by the factor, others multiplied (Keskar et al. 2019)."""
    return _changed(scores, seen, _weakened(scores[seen], factor))


def presence_penalty(scores: Scores, answer: Ids, amount: float) -> Scores:
    """Less by the amount where the token was there, however often (OpenAI)."""
    return _changed(scores, answer, scores[answer] - amount)


def frequency_penalty(scores: Scores, answer: Ids, counts: Ids, amount: float) -> Scores:
    """Less by the amount for each time that the token was there (OpenAI): no repetition penalty."""
    return _changed(scores, answer, scores[answer] - amount * counts.astype(np.float64))


def _weakened(scores: Scores, factor: float) -> Scores:
    return np.where(scores < 0, scores * factor, scores / factor)


def _changed(scores: Scores, ids: Ids, values: Scores) -> Scores:
    changed = scores.copy()
    changed[ids] = values
    return changed
