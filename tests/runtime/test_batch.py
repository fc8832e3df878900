"""Sessions that read together answer as each would alone, however the turns fall into runs; errors change none."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.fake_executor import FakeExecutor, FakeState

from hearth.runtime import Model, load, native
from hearth.runtime.batch import Turn, decode_together, step
from hearth.runtime.session import Session
from hearth.schemas.errors import HearthError

if TYPE_CHECKING:
    from conftest import Archives

Fake = Session[FakeState]
RECIPES = ({"weights": "int4"}, {"weights": "int8", "kv": "f16"}, {"weights": "f16", "kv": "f32"})


def expected(tokens: list[int], rows: int = 1) -> np.ndarray:
    ends = range(len(tokens) - rows + 1, len(tokens) + 1)
    return np.stack([FakeExecutor().logits(np.array(tokens[:end])) for end in ends])


def sessions(executor: FakeExecutor, *texts: list[int]) -> list[Fake]:
    found = [Session(executor) for _ in texts]
    for session, text in zip(found, texts, strict=True):
        if text:
            session.prefill(text)
    return found


def test_one_token_each() -> None:
    executor = FakeExecutor()
    one, two = sessions(executor, [1, 2, 3], [4])
    executor.calls.clear()
    logits = decode_together([(one, 5), (two, 6)])
    assert np.array_equal(logits, np.concatenate([expected([1, 2, 3, 5]), expected([4, 6])]))
    assert (one.tokens, two.tokens) == ((1, 2, 3, 5), (4, 6))
    assert executor.calls == [("prefill", 1, 3, 1), ("prefill", 1, 1, 1)]


def test_more_sessions_than_a_run_takes() -> None:
    executor = FakeExecutor(segments=4)
    all_of_them = sessions(executor, *[[token] for token in range(11)])
    logits = decode_together([(session, 9) for session in all_of_them])
    for token, row in enumerate(logits):
        assert np.array_equal(row, expected([token, 9])[0])


TURNS = st.lists(st.tuples(st.integers(1, 20), st.integers(0, 20)), min_size=1, max_size=7)


@given(
    turns=TURNS,
    chunk=st.integers(1, 9),
    logit_rows=st.integers(1, 9),
    segments=st.integers(1, 5),
    seed=st.integers(0, 9),
)
def test_any_step(
    turns: list[tuple[int, int]], chunk: int, logit_rows: int, segments: int, seed: int
) -> None:
    """Prompts of any length beside single tokens, within any limits of a run (the executor asserts them)."""
    rng = random.Random(seed)
    executor = FakeExecutor(chunk=chunk, logit_rows=min(chunk, logit_rows), segments=segments)
    before = [[rng.randrange(50) for _ in range(rng.choice((0, 1, 9)))] for _ in turns]
    reading = sessions(executor, *before)
    ids = [[rng.randrange(50) for _ in range(count)] for count, _ in turns]
    rows = [min(wanted, count) for count, wanted in turns]
    given_turns = [Turn(*each) for each in zip(reading, ids, rows, strict=True)]
    found = step(given_turns)
    for old, new, wanted, session, logits in zip(before, ids, rows, reading, found, strict=True):
        assert session.tokens == (*old, *new)
        assert logits.shape == (wanted, executor.vocab)
        if wanted:
            assert np.array_equal(logits, expected([*old, *new], wanted))


@pytest.mark.parametrize(
    ("turns", "code", "message"),
    [
        (lambda one, two: [], "arguments.batch", "no turns"),
        (
            lambda one, two: [Turn(one, [1]), Turn(one, [2])],
            "arguments.batch",
            "^turn 1: .*already",
        ),
        (
            lambda one, two: [Turn(one, [1]), Turn(two, [1], 2)],
            "arguments.batch",
            "^turn 1: 2 rows",
        ),
        (lambda one, two: [Turn(one, [1], -1)], "arguments.batch", "^turn 0: -1 rows"),
        (
            lambda one, two: [Turn(one, [1]), Turn(Session(FakeExecutor()), [1])],
            "arguments.batch",
            "^turn 1: .*another model",
        ),
        (lambda one, two: [Turn(one, [1]), Turn(two, [])], "input.empty", "^turn 1: "),
        (lambda one, two: [Turn(one, [1]), Turn(two, [50])], "input.token_range", "^turn 1: "),
        (lambda one, two: [Turn(one, [1]), Turn(two, [0.5])], "input.token_type", "^turn 1: "),
        (
            lambda one, two: [Turn(one, [1]), Turn(two, [1] * 64)],
            "input.context_full",
            "^turn 1: 1 tokens read and 64",
        ),
    ],
)
def test_what_cannot_be_done_changes_nothing(
    turns: Callable[[Fake, Fake], list[Turn[FakeState]]], code: str, message: str
) -> None:
    executor = FakeExecutor()
    one, two = sessions(executor, [1, 2], [3])
    calls = len(executor.calls)
    with pytest.raises(HearthError, match=message) as refused:
        step(turns(one, two))
    assert refused.value.code == code
    assert len(executor.calls) == calls
    assert (one.tokens, two.tokens) == ((1, 2), (3,))


def test_a_full_context_is_named() -> None:
    one, two = sessions(FakeExecutor(), [1], [1] * 64)
    with pytest.raises(HearthError, match=r"^turn 1: 64 tokens read"):
        decode_together([(one, 1), (two, 1)])
    assert one.position == 1


def test_a_failure_or_giving_up_leaves_all_sessions_as_they_were() -> None:
    executor = FakeExecutor()
    one, two = sessions(executor, [1, 2, 3], [4])
    turns = [Turn(one, list(range(10))), Turn(two, [7])]
    executor.fail_at = 8
    with pytest.raises(RuntimeError):
        step(turns)
    executor.fail_at = None
    runs: list[int] = []

    def give_up() -> None:
        runs.append(len(executor.calls))
        if len(runs) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        step(turns, between=give_up)
    assert (one.tokens, two.tokens) == ((1, 2, 3), (4,))
    logits = decode_together([(one, 8), (two, 9)])
    assert np.array_equal(logits, np.concatenate([expected([1, 2, 3, 8]), expected([4, 9])]))


def _model(archives: Archives, recipe: dict[str, str], threads: int, isa: str) -> Model:
    return load(archives("tiny", **recipe), threads=threads, isa=isa)


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("isa", native.isas())
@pytest.mark.parametrize("recipe", RECIPES, ids=str)
def test_a_models_sessions_get_the_bits_they_get_alone(
    archives: Archives, recipe: dict[str, str], isa: str, threads: int
) -> None:
    """Prompts, single tokens, drafts and rewinds at random, in one run and each by itself."""
    model, rng = _model(archives, recipe, threads, isa), random.Random(threads)
    together = [model.session() for _ in range(6)]
    alone = [model.session() for _ in together]
    for _ in range(12):
        turns, want = [], []
        for session, other in rng.sample(
            list(zip(together, alone, strict=True)), rng.randint(1, 6)
        ):
            if model.context - session.position < 8:
                session.rewind(3)
                other.rewind(3)
            room = model.context - session.position
            ids = rng.choices(range(model.vocab), k=rng.choice((1, 1, 1, 2, 7, min(room, 150))))
            rows = rng.choice((0, 1, len(ids)))
            turns.append(Turn(session, ids, rows))
            want.append(np.stack([other.decode(token) for token in ids])[len(ids) - rows :])
        for found, due in zip(step(turns), want, strict=True):
            np.testing.assert_array_equal(found, due)
        assert [session.tokens for session in together] == [session.tokens for session in alone]


@settings(max_examples=10, deadline=None)
@given(guessed=st.integers(1, 9), right=st.integers(0, 9))
def test_a_draft_is_verified_and_taken_back(drafting: Model, guessed: int, right: int) -> None:
    """Greedy decoding with guesses of which the first `right` are right gives the tokens of plain decoding."""
    plain, draft = drafting.session(), drafting.session()
    token = int(plain.prefill([1, 2, 3]).argmax())
    first = int(draft.prefill([1, 2, 3]).argmax())
    assert token == first
    true = []
    for _ in range(12):
        true.append(token)
        token = int(plain.decode(token).argmax())
    guess = [each if i <= right else (each + 1) % drafting.vocab for i, each in enumerate(true)]
    logits = draft.verify(guess[:guessed])
    assert logits.shape == (guessed, drafting.vocab)
    kept = 1
    while kept < guessed and guess[kept] == int(logits[kept - 1].argmax()):
        kept += 1
    assert kept == min(right + 1, guessed)
    draft.rewind(3 + kept)
    assert int(logits[kept - 1].argmax()) == true[kept]
    after = draft.decode(true[kept])
    again = drafting.session()
    assert np.array_equal(after, again.prefill([1, 2, 3, *true[: kept + 1]]))


@pytest.fixture(scope="module")
def drafting(archives: Archives) -> Model:
    return load(archives("tiny", weights="int4"), threads=2)


def test_verify_in_chunks() -> None:
    session = Session(FakeExecutor(chunk=8, logit_rows=3))
    ids = list(range(10))
    assert np.array_equal(session.verify(ids), expected(ids, 10))
    assert session.tokens == tuple(ids)
