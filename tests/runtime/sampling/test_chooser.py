"""A chooser gives the same tokens for the same logits and settings, and goes on from a saved state."""

from __future__ import annotations

import json
import math

import msgpack
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from hearth.runtime.sampling import (
    GREEDY,
    ORDER,
    Chooser,
    ChooserState,
    Constraint,
    Sampling,
    completion_seed,
)  # fmt: skip
from hearth.runtime.sampling.draw import draw
from hearth.runtime.sampling.seeds import random_number
from hearth.schemas.errors import InputError, UsageError

EVERYTHING = Sampling(
    temperature=0.8, top_k=40, top_p=0.9, min_p=0.01, typical_p=0.9, repetition_penalty=1.2,
    presence_penalty=0.3, frequency_penalty=0.2, penalty_window=9, logit_bias=((3, 1.5), (4, -2.0)),
    banned=(5, 6), seed=2**64 - 1,
)  # fmt: skip


class Odd:
    """A constraint: odd tokens, then even ones, in turn."""

    def __init__(self, vocabulary: int, odd: bool = True) -> None:
        self._vocabulary, self._odd = vocabulary, odd

    def allowed(self) -> NDArray[np.uint32] | None:
        word = 0xAAAAAAAA if self._odd else 0x55555555
        return np.full(-(-self._vocabulary // 32), word, np.uint32)

    def accept(self, token: int) -> None:
        assert token % 2 == self._odd
        self._odd = not self._odd

    @property
    def done(self) -> bool:
        return False

    def copy(self) -> Constraint:
        return Odd(self._vocabulary, self._odd)


def run(logits: list[float], how: Sampling, count: int = 1) -> list[int]:
    chooser = Chooser(how)
    return [chooser.choose(np.array(logits, np.float32)).token for _ in range(count)]


def rows(count: int, vocabulary: int = 100) -> NDArray[np.float32]:
    return np.random.default_rng(0).standard_normal((count, vocabulary)).astype(np.float32) * 3


def test_greedy_takes_the_lowest_of_equal_ids() -> None:
    assert run([1.0, 3.0, 3.0], GREEDY) == [1]


def test_greedy_has_penalties_and_bans_too() -> None:
    how = Sampling(temperature=0, presence_penalty=2.5, banned=(0,))
    assert run([9.0, 3.0, 1.0, 0.0], how, 4) == [1, 2, 1, 1]


def test_the_order_is_that_of_the_page() -> None:
    assert [step.name for step in ORDER] == [
        "logit_bias", "repetition_penalty", "presence_penalty", "frequency_penalty", "banned",
        "constraint", "temperature", "top_k", "top_p", "min_p", "typical_p",
    ]  # fmt: skip


def test_a_tiny_temperature_is_greedy() -> None:
    assert set(run([1.0, 3.0, 2.0], Sampling(temperature=1e-6), 50)) == {1}


def test_a_seed_fixes_the_draws() -> None:
    logits = rows(1)[0].tolist()
    how = Sampling(temperature=0.8, top_k=40, top_p=0.9, seed=7)
    assert run(logits, how, 20) == run(logits, how, 20)
    other = Sampling(temperature=0.8, top_k=40, top_p=0.9, seed=8)
    assert run(logits, how, 20) != run(logits, other, 20)


def test_the_stream_of_a_seed_is_fixed() -> None:
    """These numbers must never change: a seed means the same text for ever."""
    assert [random_number(42, index) * 2.0**-53 for index in range(3)] == [
        0.7739560485559633,
        0.4388784397520523,
        0.8585979199113825,
    ]


def test_seeds_of_further_completions() -> None:
    """The first has the seed itself; the rest is SplitMix64, whose numbers for seed 1234567 are published."""
    assert [completion_seed(1234567, index) for index in range(4)] == [
        1234567, 6457827717110365317, 3203168211198807973, 9817491932198370423,
    ]  # fmt: skip


def test_removed_tokens_are_never_drawn() -> None:
    drawn = run([5.0, 4.9, -50.0, 4.8], Sampling(temperature=100.0, top_k=3, seed=3), 300)
    assert set(drawn) == {0, 1, 3}


@given(
    scores=st.lists(st.floats(-50, 50) | st.just(-math.inf), min_size=1, max_size=40),
    number=st.integers(0, 2**53 - 1),
)
def test_any_draw_is_a_token_that_is_left(scores: list[float], number: int) -> None:
    if max(scores) > -math.inf:
        assert scores[draw(np.array(scores), number)] > -math.inf


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_logits_that_are_not_finite_are_refused(bad: float) -> None:
    with pytest.raises(InputError) as refused:
        run([1.0, bad], GREEDY)
    assert refused.value.code == "input.logits"


@pytest.mark.parametrize("temperature", [0.0, 0.5, 1.0])
def test_all_banned_is_refused_and_changes_nothing(temperature: float) -> None:
    chooser = Chooser(Sampling(temperature=temperature, top_p=0.5, typical_p=0.5, banned=(0, 1)))
    before = chooser.state()
    with pytest.raises(InputError) as refused:
        chooser.choose(np.zeros(2, np.float32))
    assert refused.value.code == "input.no_token"
    assert chooser.state() == before


@pytest.mark.parametrize("field", [{"banned": (2,)}, {"logit_bias": ((2, 1.0),)}])
def test_tokens_beyond_the_vocabulary_are_refused(field: dict[str, object]) -> None:
    with pytest.raises(UsageError) as refused:
        Chooser(Sampling(**field)).choose(np.zeros(2, np.float32))  # type: ignore[arg-type]
    assert refused.value.code == f"arguments.{next(iter(field))}"


def test_a_constraint_is_obeyed_and_told() -> None:
    chooser = Chooser(Sampling(seed=4), constraint=Odd(100))
    found = [chooser.choose(row).token % 2 for row in rows(6)]
    assert found == [1, 0, 1, 0, 1, 0]


def test_repetition_looks_at_the_prompt_and_openais_penalties_do_not() -> None:
    logits = np.array([3.0, 2.0], np.float32)
    assert Chooser(Sampling(0, repetition_penalty=2.0), [0]).choose(logits).token == 1
    assert Chooser(Sampling(0, presence_penalty=2.0), [0]).choose(logits).token == 0
    assert Chooser(Sampling(0, frequency_penalty=2.0), [0]).choose(logits).token == 0


def test_penalties_forget_what_is_out_of_the_window() -> None:
    logits = np.array([3.0, 2.0, -9.0], np.float32)
    how = Sampling(0, repetition_penalty=2.0, penalty_window=2)
    assert Chooser(how, [0, 2, 2]).choose(logits).token == 0
    assert Chooser(how, [2, 0, 2]).choose(logits).token == 1


def test_logprobs_are_of_the_raw_logits() -> None:
    logits = np.log(np.array([0.5, 0.3, 0.2])).astype(np.float32)
    choice = Chooser(Sampling(0, banned=(0,)), logprobs=2).choose(logits)
    assert choice.token == 1 and choice.logprob == pytest.approx(math.log(0.3), abs=1e-6)
    assert [token for token, _ in choice.top] == [0, 1]
    assert [value for _, value in choice.top] == pytest.approx([math.log(0.5), math.log(0.3)], abs=1e-6)  # fmt: skip
    assert Chooser(GREEDY, logprobs=0).choose(logits).top == ()
    assert Chooser(GREEDY).choose(logits).logprob is None


@pytest.mark.parametrize("constrained", [False, True])
@pytest.mark.parametrize("cut", [0, 1, 7, 19])
def test_a_restored_state_goes_on_alike(cut: int, constrained: bool) -> None:
    logits = rows(20)

    def fresh() -> Constraint | None:
        return Odd(100) if constrained else None

    whole = Chooser(EVERYTHING, [1, 2, 3], constraint=fresh(), logprobs=2)
    expected = [whole.choose(row) for row in logits]
    first = Chooser(EVERYTHING, [1, 2, 3], constraint=fresh(), logprobs=2)
    for row in logits[:cut]:
        first.choose(row)
    saved = msgpack.unpackb(msgpack.packb(first.state().plain()))
    state = ChooserState.from_plain(saved)
    assert state == first.state() == ChooserState.from_plain(json.loads(json.dumps(saved)))
    second, third = Chooser.restored(state, constraint=fresh(), logprobs=2), first.copy()
    for chooser in (first, second, third):
        assert [chooser.choose(row) for row in logits[cut:]] == expected[cut:]
    assert first.state() == second.state() == third.state() == whole.state()
