"""Beam search finds what looking at every text finds, where it is wide enough; how it ends."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from numpy.typing import NDArray

from hearth.runtime.sampling import GREEDY, Beams, BeamSearch, EarlyStopping, Hypothesis, Sampling
from hearth.schemas.errors import UsageError

VOCABULARY, STOP = 4, 3


def row(tokens: tuple[int, ...]) -> NDArray[np.float32]:
    """What a model of the last two tokens might say."""
    seed = [token + 1 for token in tokens[-2:]]
    return np.random.default_rng(seed).standard_normal(VOCABULARY).astype(np.float32) * 2


def log_probability(tokens: tuple[int, ...]) -> float:
    total = 0.0
    for place, token in enumerate(tokens):
        logits = row(tokens[:place]).astype(np.float64)
        total += float(logits[token]) - math.log(np.exp(logits).sum())
    return total


def search(
    how: BeamSearch, max_tokens: int, sampling: Sampling = GREEDY
) -> tuple[tuple[Hypothesis, ...], int]:
    beams = Beams(how, sampling, (), frozenset((STOP,)), max_tokens)
    running: list[tuple[int, ...]] = [()]
    steps = 0
    while not beams.done:
        branches = beams.step([row(tokens) for tokens in running])
        running = [(*running[branch.parent], branch.token) for branch in branches]
        steps += 1
    return beams.hypotheses(how.width), steps


@pytest.mark.parametrize("penalty", [0.0, 1.0, 2.0, -1.0])
def test_a_search_as_wide_as_there_are_texts_finds_the_best(penalty: float) -> None:
    longest = 4
    texts = [
        text
        for length in range(1, longest + 1)
        for text in itertools.product(range(VOCABULARY), repeat=length)
        if STOP not in text[:-1] and (text[-1] == STOP or length == longest)
    ]
    scores = {text: log_probability(text) / len(text) ** penalty for text in texts}
    best = max(texts, key=lambda text: scores[text])
    found, _ = search(BeamSearch(300, penalty), longest)
    assert found[0].tokens == best
    assert {one.tokens: one.score for one in found} == pytest.approx(scores, abs=1e-9)


def test_one_beam_without_stops_is_greedy() -> None:
    found, _ = search(BeamSearch(1), 6, Sampling(0, banned=(STOP,)))
    tokens: tuple[int, ...] = ()
    for _ in range(6):
        tokens = (*tokens, int(row(tokens)[:STOP].argmax()))
    assert found[0].tokens == tokens


def test_stopping_early_takes_fewer_steps() -> None:
    steps = {
        when: search(BeamSearch(2, 1.0, when), 30)[1]
        for when in (EarlyStopping.AT_ONCE, EarlyStopping.HEURISTIC, EarlyStopping.NEVER)
    }
    assert steps[EarlyStopping.AT_ONCE] <= steps[EarlyStopping.HEURISTIC]
    assert steps[EarlyStopping.HEURISTIC] <= steps[EarlyStopping.NEVER] <= 30


def test_biases_and_penalties_count() -> None:
    plain, _ = search(BeamSearch(3), 5)
    biased, _ = search(BeamSearch(3), 5, Sampling(0, logit_bias=((1, 50.0),)))
    assert biased[0].tokens == (1,) * 5 != plain[0].tokens
    varied, _ = search(BeamSearch(3), 3, Sampling(0, frequency_penalty=50.0))
    assert len(set(varied[0].tokens)) == len(varied[0].tokens)


@pytest.mark.parametrize(
    ("field", "code"),
    [({"width": 0}, "arguments.beams"), ({"length_penalty": math.nan}, "arguments.length_penalty")],
)
def test_bad_settings_are_refused(field: dict[str, float], code: str) -> None:
    with pytest.raises(UsageError) as refused:
        BeamSearch(**field)  # type: ignore[arg-type]
    assert refused.value.code == code
