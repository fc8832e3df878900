"""Weights are the probabilities' to the last places, and the same on every host."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hearth.runtime.sampling.logprobs import log
from hearth.runtime.sampling.weights import ONE, exp, reached, weights


@given(x=st.floats(-745, 0))
def test_exp_is_within_a_few_last_places(x: float) -> None:
    found = float(exp(np.array([x]))[0])
    if x >= -708:
        assert abs(found - math.exp(x)) <= 4 * math.ulp(math.exp(x))
    else:
        assert found == 0.0


def test_exp_at_the_edges() -> None:
    values = np.array([0.0, -0.0, -math.inf, -708.0, -1e300])
    assert exp(values).tolist() == [1.0, 1.0, 0.0, pytest.approx(math.exp(-708.0)), 0.0]


@given(x=st.floats(1, 2.0**20))
def test_log_is_within_a_few_last_places(x: float) -> None:
    assert abs(log(x) - math.log(x)) <= 4 * math.ulp(max(math.log(x), 0.25))


def test_weights_are_whole_shares_of_the_best() -> None:
    found = weights(np.array([5.0, 5.0 + math.log(0.5), -math.inf, -1e9]))
    assert found.tolist() == [ONE, ONE // 2, 0, 0]


def test_a_share_is_one_at_least() -> None:
    assert (reached(1e-300, 7), reached(0.5, 7), reached(1.0, 7)) == (1, 4, 7)
