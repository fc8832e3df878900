"""Samplers follow the field's definitions, and give the same token for the same logits and seed."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from hearth.runtime import sampling
from hearth.runtime.sampling import GREEDY, REMOVED, Sampling, choose
from hearth.schemas.errors import InputError, UsageError

SCORES = arrays(np.float64, st.integers(1, 40), elements=st.integers(-9, 9).map(float))


def kept(scores: NDArray[np.float64]) -> set[int]:
    return set(np.flatnonzero(scores > REMOVED).tolist())


def run(logits: list[float], how: Sampling, count: int = 1) -> list[int]:
    chain, sample = sampling.processors(how), sampling.sampler(how)
    return [choose((), np.array(logits, np.float32), chain, sample) for _ in range(count)]


def test_greedy_takes_the_lowest_of_equal_ids() -> None:
    assert run([1.0, 3.0, 3.0], GREEDY) == [1]
    assert sampling.processors(GREEDY) == ()


@given(x=st.floats(-745, 0))
def test_exp_is_within_a_few_last_places(x: float) -> None:
    found = float(sampling.exp(np.array([x]))[0])
    if x >= -708:
        assert abs(found - math.exp(x)) <= 4 * math.ulp(math.exp(x))
    else:
        assert found == 0.0


def test_exp_at_the_edges() -> None:
    values = np.array([0.0, -0.0, -math.inf, -708.0, -1e300])
    assert sampling.exp(values).tolist() == [1.0, 1.0, 0.0, pytest.approx(math.exp(-708.0)), 0.0]


@given(scores=SCORES, count=st.integers(1, 50))
def test_top_k_keeps_what_is_not_below_the_kth(scores: NDArray[np.float64], count: int) -> None:
    bound = sorted(scores.tolist(), reverse=True)[min(count, len(scores)) - 1]
    assert kept(sampling.top_k(count)((), scores)) == {
        i for i, s in enumerate(scores) if s >= bound
    }


@given(scores=SCORES, share=st.floats(0.01, 0.999))
def test_top_p_keeps_the_smallest_set_that_reaches_p(
    scores: NDArray[np.float64], share: float
) -> None:
    order = sorted(range(len(scores)), key=lambda i: (-scores[i], i))
    weights = [math.exp(scores[i] - scores.max()) for i in order]
    total, expected = math.fsum(weights), set()
    for place, token in enumerate(order):
        before = math.fsum(weights[:place])
        if abs(before - share * total) < 1e-9 * total:
            return  # on the edge rounding decides
        if before < share * total:
            expected.add(token)
    assert kept(sampling.top_p(share)((), scores)) == expected


def test_top_p_keeps_one_token_at_least() -> None:
    assert kept(sampling.top_p(1e-9)((), np.array([0.0, 5.0, 5.0]))) == {1}


def test_top_p_over_a_large_flat_vocabulary() -> None:
    scores = np.zeros(50_000)
    assert len(kept(sampling.top_p(0.5)((), scores))) == 25_000


@pytest.mark.parametrize("value", [1e-300, 1e-3, 0.5, 2.0, 1e300])
def test_temperature_never_overflows(value: float) -> None:
    scores = sampling.temperature(value)((), np.array([1e30, -1e30, 1e30]))
    assert not np.isnan(scores).any()
    assert (scores[0], scores[2]) == (0.0, 0.0)


def test_a_tiny_temperature_is_greedy() -> None:
    assert set(run([1.0, 3.0, 2.0], Sampling(temperature=1e-6), 50)) == {1}


def test_a_seed_fixes_the_draws() -> None:
    logits = np.random.default_rng(0).standard_normal(100).tolist()
    how = Sampling(temperature=0.8, top_k=40, top_p=0.9, seed=7)
    assert run(logits, how, 20) == run(logits, how, 20)
    other = Sampling(temperature=0.8, top_k=40, top_p=0.9, seed=8)
    assert run(logits, how, 20) != run(logits, other, 20)


def test_the_stream_of_a_seed_is_fixed() -> None:
    """These numbers must never change: a seed means the same text for ever."""
    numbers = sampling.uniform(42)
    assert [numbers() for _ in range(3)] == [
        0.7739560485559633,
        0.4388784397520523,
        0.8585979199113825,
    ]


def test_draws_follow_the_probabilities() -> None:
    probabilities = np.array([0.5, 0.3, 0.2])
    count = 20_000
    found = np.bincount(run(np.log(probabilities).tolist(), Sampling(seed=1), count), minlength=3)
    # Five standard deviations of a binomial count.
    bound = 5 * np.sqrt(count * probabilities * (1 - probabilities))
    assert (np.abs(found - count * probabilities) <= bound).all()


def test_removed_tokens_are_never_drawn() -> None:
    drawn = run([5.0, 4.9, -50.0, 4.8], Sampling(temperature=100.0, top_k=3, seed=3), 300)
    assert set(drawn) == {0, 1, 3}


@settings(max_examples=30)
@given(scores=SCORES, seed=st.integers(0, 2**64 - 1))
def test_any_draw_is_a_token(scores: NDArray[np.float64], seed: int) -> None:
    assert 0 <= sampling.sampler(Sampling(seed=seed))(scores) < len(scores)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("temperature", -0.1), ("temperature", math.nan), ("temperature", math.inf), ("top_k", -1),
        ("top_p", 0.0), ("top_p", 1.1), ("top_p", math.nan), ("seed", -1), ("seed", 2**64),
    ],
)  # fmt: skip
def test_values_out_of_range_are_refused(field: str, value: float) -> None:
    with pytest.raises(UsageError) as refused:
        Sampling(**{field: value})  # type: ignore[arg-type]
    assert refused.value.code == f"arguments.{field}"


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_logits_that_are_not_finite_are_refused(bad: float) -> None:
    with pytest.raises(InputError) as refused:
        run([1.0, bad], GREEDY)
    assert refused.value.code == "input.logits"
