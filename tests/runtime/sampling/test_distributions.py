"""Draws follow the probabilities that each setting leaves: chi-square on 1e5 draws, and no draw of what it removes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hearth.runtime.sampling import Sampling
from hearth.runtime.sampling.fast import Changes, choose_token
from hearth.runtime.sampling.history import look_back
from hearth.runtime.sampling.order import Moment, named, process
from hearth.runtime.sampling.scores import REMOVED
from hearth.runtime.sampling.seeds import BITS

DRAWS, VOCABULARY = 100_000, 60
TOKENS = [3, 3, 9, 20, 9, 9, 41]  # a prompt of three and an answer of four
SETTINGS: dict[str, dict[str, Any]] = {
    "nothing": {},
    "temperature": {"temperature": 0.6},
    "hot": {"temperature": 3.0},
    "top_k": {"top_k": 7},
    "top_p": {"top_p": 0.8},
    "min_p": {"min_p": 0.15},
    "typical_p": {"typical_p": 0.5},
    "repetition_penalty": {"repetition_penalty": 1.8},
    "presence_penalty": {"presence_penalty": 1.2},
    "frequency_penalty": {"frequency_penalty": 0.7},
    "penalty_window": {"frequency_penalty": 0.7, "penalty_window": 2},
    "logit_bias": {"logit_bias": ((5, 2.0), (9, -3.0))},
    "banned": {"banned": (0, 9)},
    "together": {"temperature": 1.3, "top_k": 40, "top_p": 0.95, "min_p": 0.01, "typical_p": 0.9, "banned": (1,)},
}  # fmt: skip
# What the statistic stays below but for one time in 1e6, by Wilson and Hilferty.
NORMAL = 4.753


def bound(freedom: int) -> float:
    part = 2 / (9 * freedom)
    return freedom * (1 - part + NORMAL * part**0.5) ** 3


@pytest.mark.parametrize("name", SETTINGS)
def test_draws_follow_the_probabilities(name: str) -> None:
    logits = (np.random.default_rng(3).standard_normal(VOCABULARY) * 1.5).astype(np.float32)
    how = Sampling(**SETTINGS[name], seed=11)
    seen = look_back(TOKENS, 3, how.penalty_window)
    scores = process(logits.astype(np.float64), how, Moment(named(how), seen))
    probabilities = np.where(scores > REMOVED, np.exp(scores - scores.max()), 0.0)
    probabilities /= probabilities.sum()

    changed, stream = Changes(how).of(logits, seen), np.random.PCG64(how.seed)
    numbers = (stream.random_raw(DRAWS) >> np.uint64(64 - BITS)).tolist()
    drawn = [choose_token(logits, changed, None, how, number) for number in numbers]
    counts = np.bincount(np.array(drawn), minlength=VOCABULARY)

    assert not counts[probabilities == 0].any()
    often = probabilities * DRAWS >= 5  # the rest is one class
    expected = np.append(probabilities[often], probabilities[~often].sum()) * DRAWS
    found = np.append(counts[often], counts[~often].sum())
    there = expected > 0
    statistic = float(((found - expected)[there] ** 2 / expected[there]).sum())
    assert statistic <= bound(max(int(there.sum()) - 1, 1))
