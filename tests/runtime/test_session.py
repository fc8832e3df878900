"""A session answers as a fresh one would, whatever the chunks, rewinds and failures before."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from support.fake_executor import FakeExecutor, FakeState

from hearth.runtime.session import Session
from hearth.schemas.errors import HearthError, InputError, UsageError


def fresh(*, chunk: int | None = None) -> tuple[Session[FakeState], FakeExecutor]:
    executor = FakeExecutor()
    return Session(executor, chunk), executor


def expected(tokens: list[int]) -> np.ndarray:
    return FakeExecutor().logits(np.array(tokens))


@given(ids=st.lists(st.integers(0, 49), min_size=1, max_size=64), chunk=st.integers(1, 8))
def test_chunks_change_nothing(ids: list[int], chunk: int) -> None:
    session, executor = fresh()
    assert np.array_equal(session.prefill(ids, chunk=chunk), expected(ids))
    assert session.tokens == tuple(ids)
    asked = [rows for _, _, _, rows in executor.calls]
    assert asked == [0] * (len(asked) - 1) + [1]
    assert all(count <= chunk for _, count, _, _ in executor.calls)


def test_prefill_goes_on_where_it_was() -> None:
    session, _ = fresh()
    session.prefill([1, 2, 3])
    assert np.array_equal(session.prefill([4, 5]), expected([1, 2, 3, 4, 5]))
    assert np.array_equal(session.decode(6), expected([1, 2, 3, 4, 5, 6]))
    assert session.position == 6


def test_rewind_and_replay() -> None:
    session, _ = fresh()
    first = session.prefill([1, 2, 3, 4])
    session.rewind(2)
    assert session.tokens == (1, 2)
    session.prefill([9, 8, 7])
    session.rewind(0)
    assert np.array_equal(session.prefill([1, 2, 3, 4]), first)


def test_sessions_of_one_executor_are_apart() -> None:
    executor = FakeExecutor()
    one, two = Session(executor), Session(executor)
    one.prefill([1, 2, 3])
    two.prefill([4, 5])
    assert np.array_equal(one.decode(6), expected([1, 2, 3, 6]))
    assert np.array_equal(two.decode(7), expected([4, 5, 7]))


@pytest.mark.parametrize(
    ("ids", "code"),
    [
        ([], "input.empty"),
        (np.empty(0, np.int32), "input.empty"),
        ([50], "input.token_range"),
        ([1, -1], "input.token_range"),
        ([10**30], "input.token_range"),
        (np.array([2**63], np.uint64), "input.token_range"),
        ([1.0], "input.token_type"),
        ([True], "input.token_type"),
        (["a"], "input.token_type"),
        ([None], "input.token_type"),
        ([[1, 2]], "input.token_type"),
        ([[1], [2, 3]], "input.token_type"),
        (np.ones((2, 2), np.int32), "input.token_type"),
        ("text", "input.token_type"),
        ([1] * 65, "input.context_full"),
    ],
)
def test_bad_ids_are_refused_and_change_nothing(ids: object, code: str) -> None:
    session, executor = fresh()
    session.prefill([1, 2])
    before = len(executor.calls)
    with pytest.raises(InputError) as refused:
        session.prefill(ids)  # type: ignore[arg-type]
    assert refused.value.code == code
    assert len(executor.calls) == before
    assert np.array_equal(session.decode(3), expected([1, 2, 3]))


def test_a_full_context_says_the_numbers() -> None:
    session, _ = fresh()
    session.prefill(list(range(50)) + list(range(14)))
    with pytest.raises(
        InputError, match=r"64 tokens read and 1 to read make 65.*at most 64.*--context"
    ):
        session.decode(1)
    session.rewind(63)
    session.decode(1)


@pytest.mark.parametrize(
    ("token", "code"),
    [
        (-1, "input.token_range"),
        (50, "input.token_range"),
        (1 << 40, "input.token_range"),
        (1.0, "input.token_type"),
        (None, "input.token_type"),
    ],
)
def test_one_token_is_checked_as_many_are(token: object, code: str) -> None:
    session, executor = fresh()
    session.prefill([1, 2])
    before = len(executor.calls)
    with pytest.raises(InputError) as refused:
        session.decode(token)  # type: ignore[arg-type]
    assert refused.value.code == code
    assert len(executor.calls) == before
    assert np.array_equal(session.decode(np.int64(3)), expected([1, 2, 3]))  # type: ignore[arg-type]


def test_a_failing_run_leaves_the_session_as_it_was() -> None:
    session, executor = fresh()
    session.prefill([1, 2, 3])
    executor.fail_at = 8
    with pytest.raises(RuntimeError):
        session.prefill(list(range(20)))
    assert session.tokens == (1, 2, 3)
    executor.fail_at = None
    assert np.array_equal(session.decode(4), expected([1, 2, 3, 4]))


@pytest.mark.parametrize("position", [-1, 4])
def test_rewind_beyond_the_tokens_is_refused(position: int) -> None:
    session, _ = fresh()
    session.prefill([1, 2, 3])
    with pytest.raises(InputError) as refused:
        session.rewind(position)
    assert refused.value.code == "input.position"
    assert session.position == 3


@pytest.mark.parametrize("chunk", [0, -1, 9])
def test_chunks_the_archive_cannot_run_are_refused(chunk: int) -> None:
    session, executor = fresh()
    for attempt in (lambda: session.prefill([1], chunk=chunk), lambda: Session(executor, chunk)):
        with pytest.raises(UsageError) as refused:
            attempt()
        assert refused.value.code == "arguments.chunk"


def test_user_errors_are_one_family() -> None:
    assert issubclass(InputError, HearthError)


class AnySession(RuleBasedStateMachine):
    """Whatever was done before, a session answers as a fresh one that reads the same tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.session, self.executor = fresh()
        self.tokens: list[int] = []

    @rule(ids=st.lists(st.integers(0, 49), min_size=1, max_size=20), chunk=st.integers(1, 8))
    def prefill(self, ids: list[int], chunk: int) -> None:
        if len(self.tokens) + len(ids) > 64:
            with pytest.raises(InputError):
                self.session.prefill(ids)
            return
        self.tokens += ids
        assert np.array_equal(self.session.prefill(ids, chunk=chunk), expected(self.tokens))

    @precondition(lambda self: len(self.tokens) < 64)
    @rule(token=st.integers(0, 49))
    def decode(self, token: int) -> None:
        self.tokens.append(token)
        assert np.array_equal(self.session.decode(token), expected(self.tokens))

    @rule(share=st.floats(0, 1))
    def rewind(self, share: float) -> None:
        place = int(share * len(self.tokens))
        self.session.rewind(place)
        del self.tokens[place:]

    @rule(ids=st.lists(st.integers(0, 49), min_size=1, max_size=20), after=st.integers(0, 20))
    def fail(self, ids: list[int], after: int) -> None:
        self.executor.fail_at = len(self.tokens) + after
        try:
            self.session.prefill(ids, chunk=2)
        except (RuntimeError, InputError):
            pass
        else:
            self.tokens += ids
        self.executor.fail_at = None

    @invariant()
    def holds_the_tokens(self) -> None:
        assert self.session.tokens == tuple(self.tokens)


TestAnySession = AnySession.TestCase
TestAnySession.settings = settings(max_examples=40, stateful_step_count=20, deadline=None)
