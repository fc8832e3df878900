"""The native core weighs and chooses tokens as the functions of the package do: equal in every bit, on every ISA."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from hearth.runtime import native
from hearth.runtime.sampling import Sampling
from hearth.runtime.sampling.draw import draw, greedy
from hearth.runtime.sampling.fast import Changes, choose_token
from hearth.runtime.sampling.history import NOTHING_SEEN, History, look_back
from hearth.runtime.sampling.logprobs import log, logprobs, top_logprobs
from hearth.runtime.sampling.order import Moment, named, process
from hearth.runtime.sampling.scores import REMOVED
from hearth.runtime.sampling.weights import ONE, weights

Logits = NDArray[np.float32]
SIZES = (1, 2, 31, 33, 1000, 1024, 1025, 5000)
ISAS = [isa for isa in native.isas() if isa != "amx"]


def some_logits(random: np.random.Generator, size: int) -> Logits:
    """Of many kinds: bells wide and narrow, flat ones, ties, few tokens far above the rest."""
    match random.integers(0, 9):
        case 0:
            values = np.zeros(size)
        case 1:
            values = random.integers(-3, 3, size).astype(np.float64)
        case 2:
            values = random.standard_normal(size) * 1e-6
        case 3:
            values = random.standard_normal(size) * 1e30
        case 4:
            values = random.standard_normal(size) + 20 * (random.random(size) < 3 / size)
        case 5:
            values = -np.exp(random.uniform(-20, 4, size))
        case 6:  # one far above a crowd
            values = random.standard_normal(size) * 10.0 ** random.integers(-6, -1)
            values[random.integers(size)] += random.uniform(0, 30)
        case 7:  # crowds of equal ones
            values = random.choice(random.standard_normal(3), size)
        case _:
            values = random.standard_normal(size) * random.uniform(0.5, 8)
    return values.astype(np.float32)


def some_settings(random: np.random.Generator, size: int) -> Sampling:
    def one(of: Any, otherwise: Any) -> Any:
        return of if random.random() < 0.5 else otherwise

    ids = random.permutation(size)
    return Sampling(
        temperature=float(np.exp(random.normal() * one(0.5, 3.0))),
        top_k=one(int(random.integers(1, size + 2)), 0),
        top_p=one(float(random.choice([random.uniform(0.001, 0.999), 1e-12, 1 - 2**-53])), 1.0),
        min_p=one(float(random.choice([random.uniform(0, 1), 1.0, 1e-15])), 0.0),
        typical_p=one(float(random.choice([random.uniform(0.001, 0.999), 1e-12, 0.2])), 1.0),
        repetition_penalty=one(float(np.exp(random.normal())), 1.0),
        presence_penalty=one(float(random.normal()), 0.0),
        frequency_penalty=one(float(random.normal()), 0.0),
        logit_bias=one(tuple((int(i), float(random.normal() * 9)) for i in ids[: size // 4]), ()),
        banned=one(tuple(ids[-(size // 3) :].tolist()) if size > 3 else (), ()),
    )


def some_moment(random: np.random.Generator, how: Sampling, size: int) -> Moment:
    tokens = random.integers(0, size, 40).tolist()
    words = int(random.integers(max(size // 32, 1), size // 32 + 3))
    mask = random.integers(0, 2**32, words).astype(np.uint32)
    mask[random.random(words) < 0.3] = 0xFFFFFFFF
    mask[random.random(words) < 0.1] = 0
    return Moment(named(how), look_back(tokens, 15, 0), mask if random.random() < 0.4 else None)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("size", [*SIZES, 40_000])
def test_weights_are_those_of_the_definition(size: int, isa: str) -> None:
    """Of 40,000 tokens, steps of the ladder are crowded and cut into finer ones."""
    random = np.random.default_rng(size)
    for _ in range(60 if size <= max(SIZES) else 25):
        logits, how = some_logits(random, size), some_settings(random, size)
        now = some_moment(random, how, size)
        scores = process(logits.astype(np.float64), how, now)
        left = scores.max() > REMOVED
        expected = weights(scores) if left else np.zeros(size, np.int64)
        found = native.token_weights(
            logits, *Changes(how).of(logits, now.seen), now.allowed,
            how.temperature, how.top_k, how.top_p, how.min_p, how.typical_p, isa,
        )  # fmt: skip
        assert np.array_equal(found, expected), (how, now)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("top_p", [1.0, 0.9])
def test_a_crowd_of_equal_tokens_is_kept_by_min_p(isa: str, top_p: float) -> None:
    """All of them at its edge, and more than a step of the ladder is selected from one by one."""
    how = Sampling(min_p=1.0, typical_p=0.5, top_p=top_p)
    logits = np.zeros(20_000, np.float32)
    expected = weights(process(logits.astype(np.float64), how, Moment(named(how))))
    changes = Changes(how).of(logits, NOTHING_SEEN)
    found = native.token_weights(logits, *changes, None, 1.0, 0, top_p, 1.0, 0.5, isa)
    assert expected.any() and np.array_equal(found, expected)


@pytest.mark.parametrize("isa", ISAS)
def test_choices_are_those_of_the_definition(isa: str) -> None:
    random = np.random.default_rng(5)
    for _ in range(200):
        size = int(random.choice(SIZES))
        logits, how = some_logits(random, size), some_settings(random, size)
        if random.random() < 0.3:
            how = Sampling(0.0, logit_bias=how.logit_bias, banned=how.banned)
        now, number = some_moment(random, how, size), int(random.integers(0, 2**53))
        scores = process(logits.astype(np.float64), how, now)
        expected: int | None = None
        if scores.max() > REMOVED:
            expected = greedy(scores) if how.greedy else draw(scores, number)
        changed = Changes(how).of(logits, now.seen)
        assert choose_token(logits, changed, now.allowed, how, number) == expected


def test_the_ends_of_a_draw() -> None:
    """The smallest and the largest number give the first and the last token that weighs anything."""
    logits = np.array([-100.0, 1.0, 1.0, -100.0], np.float32)
    how = Sampling()
    nothing = Changes(how).of(logits, NOTHING_SEEN)
    assert choose_token(logits, nothing, None, how, 0) == 1
    assert choose_token(logits, nothing, None, how, 2**53 - 1) == 2


def test_a_typical_choice_without_the_best() -> None:
    """The best may be too unsurprising: what is left is weighed against the best of the rest."""
    logits = np.log(np.array([0.2] + [0.8 / 80] * 80)).astype(np.float32)
    how = Sampling(typical_p=0.2)
    found = native.token_weights(
        logits, *Changes(how).of(logits, NOTHING_SEEN), None, 1.0, 0, 1.0, 0.0, 0.2
    )
    assert found[0] == 0 and set(found[1:].tolist()) == {ONE}


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("size", SIZES)
def test_what_is_not_finite_is_counted(size: int, isa: str) -> None:
    random = np.random.default_rng(size)
    logits = random.uniform(-3.4e38, 3.4e38, size).astype(np.float32)
    assert native.not_finite(logits, isa) == 0
    places = random.permutation(size)[:5]
    logits[places] = random.choice(
        np.array([math.nan, math.inf, -math.inf], np.float32), len(places)
    )
    assert native.not_finite(logits, isa) == len(places)


@given(
    values=st.lists(st.sampled_from([-1.0, 0.0, -0.0, 0.5, 2.0]), min_size=1, max_size=70),
    count=st.integers(0, 80),
)
def test_best_tokens_come_in_order(values: list[float], count: int) -> None:
    order = sorted(range(len(values)), key=lambda i: (-values[i], i))
    assert native.best_tokens(np.array(values, np.float32), count) == order[:count]


@pytest.mark.parametrize("isa", ISAS)
def test_the_total_weight_and_the_best(isa: str) -> None:
    random = np.random.default_rng(0)
    for size in SIZES:
        logits = some_logits(random, size)
        best, weight = native.ranked(logits, 3, isa)
        assert weight == weights(logits.astype(np.float64)).sum()
        assert best == native.best_tokens(logits, 3)


def test_logprobs_add_up_to_one() -> None:
    logits = np.random.default_rng(0).standard_normal(3000).astype(np.float32) * 4
    found = logprobs(logits, range(3000))
    assert math.fsum(math.exp(value) for value in found) == pytest.approx(1.0, abs=1e-10)
    assert log(1.0) == 0.0


@pytest.mark.parametrize(
    "wrong",
    [
        {"logits": np.zeros(0, np.float32)}, {"changed": np.array([4])}, {"changed": np.array([-1])},
        {"scores": np.zeros(2)}, {"temperature": -1.0}, {"min_p": 2.0}, {"top_p": 0.0},
    ],
)  # fmt: skip
def test_bad_arguments_are_refused(wrong: dict[str, Any]) -> None:
    good: dict[str, Any] = {
        "logits": np.zeros(4, np.float32), "changed": np.array([1]), "scores": np.zeros(1), "mask": None,
        "temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0, "typical_p": 1.0, "number": 0,
    }  # fmt: skip
    with pytest.raises(ValueError):
        native.choose_token(**(good | wrong))


@settings(max_examples=50)
@given(
    prompt=st.lists(st.integers(0, 9), max_size=12),
    answer=st.lists(st.integers(0, 9), max_size=20),
    window=st.integers(0, 15),
)
def test_a_history_is_kept_up_to_date(prompt: list[int], answer: list[int], window: int) -> None:
    tokens = list(prompt)
    history = History(tokens, len(prompt), window)
    for token in [None, *answer]:
        if token is not None:
            tokens.append(token)
            history.grew()
        found, expected = history.seen(), look_back(tokens, len(prompt), window)
        assert found.tokens.tolist() == expected.tokens.tolist()
        assert found.answer.tolist() == expected.answer.tolist()
        assert found.counts.tolist() == expected.counts.tolist()


@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_a_top_k_beyond_64_bits_keeps_all_tokens(temperature: float) -> None:
    logits = some_logits(np.random.default_rng(3), 1000)
    nothing = np.array([], np.int64), np.array([], np.float64)
    most, all_ = (Sampling(temperature, top_k=k) for k in (1 << 63, 0))
    found = [choose_token(logits, nothing, None, how, 1 << 50) for how in (most, all_)]
    assert found[0] == found[1]


def test_more_log_probabilities_than_tokens_are_those_of_all() -> None:
    logits = some_logits(np.random.default_rng(4), 50)
    assert top_logprobs(logits, 7, 1 << 63) == top_logprobs(logits, 7, 50)
