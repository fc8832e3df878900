"""Each processor follows its written definition, on any scores."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from hearth.runtime.sampling import penalties, tokens
from hearth.runtime.sampling.min_p import min_p
from hearth.runtime.sampling.scores import REMOVED
from hearth.runtime.sampling.temperature import temperature
from hearth.runtime.sampling.top_k import top_k
from hearth.runtime.sampling.top_p import top_p
from hearth.runtime.sampling.typical_p import typical_p

Scores = NDArray[np.float64]
SCORES = arrays(np.float64, st.integers(1, 40), elements=st.integers(-9, 9).map(float))
SHARES = st.floats(0.01, 0.999)


def kept(scores: Scores) -> set[int]:
    return set(np.flatnonzero(scores > REMOVED).tolist())


def probabilities(scores: Scores) -> list[float]:
    weights = [math.exp(score - max(scores)) for score in scores]
    return [weight / math.fsum(weights) for weight in weights]


@given(scores=SCORES, count=st.integers(1, 50))
def test_top_k_keeps_what_is_not_below_the_kth(scores: Scores, count: int) -> None:
    bound = sorted(scores.tolist(), reverse=True)[min(count, len(scores)) - 1]
    assert kept(top_k(scores, count)) == {i for i, s in enumerate(scores) if s >= bound}


@given(scores=SCORES, share=SHARES)
def test_top_p_keeps_the_smallest_set_that_reaches_p(scores: Scores, share: float) -> None:
    order = sorted(range(len(scores)), key=lambda i: (-scores[i], i))
    chances, expected = probabilities(scores), set()
    for place, token in enumerate(order):
        before = math.fsum(chances[i] for i in order[:place])
        if abs(before - share) < 1e-9:
            return  # on the edge rounding decides
        if before < share:
            expected.add(token)
    assert kept(top_p(scores, share)) == expected


def test_top_p_keeps_one_token_at_least() -> None:
    assert kept(top_p(np.array([0.0, 5.0, 5.0]), 1e-9)) == {1}


def test_top_p_over_a_large_flat_vocabulary() -> None:
    assert len(kept(top_p(np.zeros(50_000), 0.5))) == 25_000


@given(scores=SCORES, share=st.floats(0, 1))
def test_min_p_keeps_by_the_probability_of_the_best(scores: Scores, share: float) -> None:
    """But for those that weigh nothing: less probable than 2^-44 times the best."""
    ratios = [math.exp(score - max(scores)) for score in scores]
    if any(abs(ratio - share) < 1e-9 for ratio in ratios if ratio != 1.0):
        return
    assert kept(min_p(scores, share)) == {i for i, r in enumerate(ratios) if r >= share}


@given(scores=SCORES, share=SHARES)
def test_typical_p_keeps_the_nearest_to_the_entropy(scores: Scores, share: float) -> None:
    """Rounded to nine digits, that equal distances are equal in both computations."""
    chances = probabilities(scores)
    entropy = -math.fsum(p * math.log(p) for p in chances)
    away = [round(abs(-math.log(p) - entropy), 9) for p in chances]
    bound = None
    for distance in sorted(set(away)):
        inside = math.fsum(p for p, d in zip(chances, away, strict=True) if d <= distance)
        if abs(inside - share) < 1e-9:
            return
        if bound is None and inside >= share:
            bound = distance
    found = kept(typical_p(scores, share))
    # Two distances on both sides of the entropy may be equal by chance of rounding: not looked at.
    if len({round(d, 6) for d in away}) == len({float(s) for s in scores}):
        assert found == {i for i, d in enumerate(away) if bound is None or d <= bound}


@pytest.mark.parametrize("value", [1e-300, 1e-3, 0.5, 2.0, 1e300])
def test_temperature_never_overflows(value: float) -> None:
    scores = temperature(np.array([1e30, -1e30, 1e30]), value)
    assert not np.isnan(scores).any()
    assert (scores[0], scores[2]) == (0.0, 0.0)


def test_repetition_penalty_pushes_both_signs_down() -> None:
    scores = np.array([2.0, -2.0, 2.0, 0.0])
    found = penalties.repetition_penalty(scores, np.array([0, 1, 3]), 2.0)
    assert found.tolist() == [1.0, -4.0, 2.0, 0.0]


def test_a_frequency_penalty_is_not_a_repetition_penalty() -> None:
    """It subtracts, once for each time; a repetition penalty multiplies, once; a presence penalty subtracts once."""
    scores, answer, counts = np.array([4.0, -4.0, 4.0]), np.array([0, 1]), np.array([3, 1])
    frequency = penalties.frequency_penalty(scores, answer, counts, 0.5)
    assert frequency.tolist() == [2.5, -4.5, 4.0]
    assert penalties.presence_penalty(scores, answer, 0.5).tolist() == [3.5, -4.5, 4.0]
    assert penalties.repetition_penalty(scores, answer, 2.0).tolist() == [2.0, -8.0, 4.0]


def test_bias_and_bans() -> None:
    scores = np.array([1.0, 2.0, 3.0])
    assert tokens.logit_bias(scores, np.array([0, 2]), np.array([5.0, -1.0])).tolist() == [
        6.0,
        2.0,
        2.0,
    ]
    assert tokens.banned(scores, np.array([2, 0])).tolist() == [REMOVED, 2.0, REMOVED]
    assert scores.tolist() == [1.0, 2.0, 3.0]


@given(ids=st.sets(st.integers(0, 99)), words=st.integers(1, 4))
def test_the_mask_of_a_constraint(ids: set[int], words: int) -> None:
    """A mask may have more or fewer bits than the vocabulary."""
    mask = np.zeros(words, np.uint32)
    for token in ids:
        if token < 32 * words:
            mask[token // 32] |= np.uint32(1 << token % 32)
    found = tokens.allowed(np.zeros(100), mask)
    assert kept(found) == {token for token in ids if token < 32 * words}
