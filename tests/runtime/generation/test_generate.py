"""Generation over a fake model: pieces, stops, limits, times, and sessions that stay usable."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import count
from typing import Any

import numpy as np
import pytest
from support.fake_executor import FakeExecutor, FakeState

from hearth.runtime.generation.generate import Generation
from hearth.runtime.generation.writing import Request
from hearth.runtime.sampling import Sampling
from hearth.runtime.session import Session
from hearth.schemas.errors import UsageError

# The fake prefers the token after the last one; token t reads as the t-th letter.
LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWX"


def letters(ids: Sequence[int]) -> str:
    return "".join(LETTERS[token] for token in ids)


def start(
    request: Request,
    prompt: Sequence[int] = (0, 1, 2),
    decode: Callable[[Sequence[int]], str] = letters,
    session: Session[FakeState] | None = None,
) -> tuple[Generation, Session[FakeState]]:
    session = session or Session(FakeExecutor())
    ticks = count()
    return Generation(session, prompt, request, decode, clock=lambda: float(next(ticks))), session


def test_pieces_come_one_by_one() -> None:
    generation, session = start(Request(max_tokens=4))
    assert next(generation) == "d"
    assert (generation.tokens, generation.finish_reason) == ([3], None)
    assert list(generation) == ["e", "f", "g"]
    assert (generation.text, generation.tokens) == ("defg", [3, 4, 5, 6])
    assert generation.finish_reason == "length"
    assert session.tokens == (0, 1, 2, 3, 4, 5)  # the last token has not been read


def test_a_stop_token_ends_the_text_without_it() -> None:
    generation, _ = start(Request(stop_ids=frozenset((6,))))
    assert "".join(generation) == "def"
    assert (generation.tokens, generation.finish_reason) == ([3, 4, 5, 6], "stop")


@pytest.mark.parametrize(
    ("stop", "text", "last"),
    [
        (("fg",), "de", 6),
        (("g", "fghi"), "def", 6),
        (("ef", "def"), "", 5),
        (("zz",), "defghijklmnopq", 16),
    ],
)
def test_stop_strings_may_span_pieces(stop: tuple[str, ...], text: str, last: int) -> None:
    generation, session = start(Request(stop=stop, max_tokens=14))
    assert "".join(generation) == text
    assert generation.tokens[-1] == last
    assert session.tokens[-1] == last - 1


def test_held_back_text_comes_at_the_end() -> None:
    generation, _ = start(Request(stop=("fgX",), max_tokens=4))
    assert list(generation) == ["d", "e", "fg"]
    generation, _ = start(Request(stop=("fgX",), stop_ids=frozenset((7,))))
    assert list(generation) == ["d", "e", "fg"]


def test_unfinished_characters_come_at_the_end_but_not_after_a_stop() -> None:
    def half(ids: Sequence[int]) -> str:
        return letters(ids).replace("g", "\N{REPLACEMENT CHARACTER}")

    assert "".join(start(Request(max_tokens=4), decode=half)[0]) == "def\N{REPLACEMENT CHARACTER}"
    assert "".join(start(Request(max_tokens=4, stop=("f",)), decode=half)[0]) == "de"


def test_a_full_context_ends_it() -> None:
    generation, session = start(Request(), prompt=[0] * 60)
    assert len("".join(generation)) == 5  # four are read, the fifth needs no room
    assert generation.finish_reason == "length"
    assert session.position == session.context == 64


def test_a_prompt_may_fill_the_context() -> None:
    generation, _ = start(Request(), prompt=[0] * 64)
    assert (list(generation), generation.finish_reason) == (["b"], "length")


@pytest.mark.parametrize("pieces", [0, 1, 3])
def test_cancelling_leaves_the_session_usable(pieces: int) -> None:
    generation, session = start(Request(max_tokens=9))
    for _ in range(pieces):
        next(generation)
    generation.cancel()
    assert list(generation) == []
    assert generation.finish_reason == "cancelled"
    assert len(generation.tokens) == pieces
    more, _ = start(Request(max_tokens=2), prompt=(20,), session=session)
    assert "".join(more) == "vw"


def test_cancelling_within_a_prompt_leaves_nothing_of_it() -> None:
    session = Session(FakeExecutor())
    session.prefill([7, 8])
    generation, _ = start(Request(), prompt=[0] * 40, session=session)
    reads = FakeExecutor.run

    class Cancelling(FakeExecutor):
        def run(self, state: FakeState, entry: str, tokens: np.ndarray, *rest: Any) -> None:
            reads(self, state, entry, tokens, *rest)
            if len(self.calls) == 3:
                generation.cancel()

    session._executor = Cancelling()
    assert list(generation) == []
    assert (generation.finish_reason, generation.tokens) == ("cancelled", [])
    assert session.tokens == (7, 8)
    assert "".join(start(Request(max_tokens=2), prompt=(20,), session=session)[0]) == "vw"


def test_an_interrupt_leaves_the_session_usable() -> None:
    class Interrupted(Session[FakeState]):
        def decode(self, token: int) -> np.ndarray:
            if token == 5:
                raise KeyboardInterrupt
            return super().decode(token)

    session = Interrupted(FakeExecutor())
    generation, _ = start(Request(max_tokens=9), session=session)
    with pytest.raises(KeyboardInterrupt):
        list(generation)
    assert (generation.finish_reason, generation.text) == ("cancelled", "def")
    assert list(generation) == []
    session.rewind(4)
    assert "".join(start(Request(max_tokens=2), prompt=(9,), session=session)[0]) == "kl"


def test_generation_goes_on_in_a_session() -> None:
    session = Session(FakeExecutor())
    first, _ = start(Request(max_tokens=3), session=session)
    list(first)
    second, _ = start(Request(max_tokens=2), prompt=(9,), session=session)
    assert "".join(second) == "kl"
    assert session.tokens == (0, 1, 2, 3, 4, 9, 10)


def test_a_seed_fixes_the_text() -> None:
    def text(seed: int) -> str:
        how = Sampling(temperature=30.0, seed=seed)
        return "".join(start(Request(max_tokens=20, sampling=how))[0])

    assert text(1) == text(1)
    assert text(1) != text(2)


def test_stats_leave_out_the_consumer() -> None:
    """The clock ticks at each look: one tick of prefill, one to choose, one for each later token."""
    generation, _ = start(Request(max_tokens=4))
    assert generation.stats.decode_rate is None
    assert generation.stats.prefill_rate is None
    list(generation)
    stats = generation.stats
    assert (stats.prompt_tokens, stats.generated_tokens) == (3, 4)
    assert (stats.prefill_s, stats.first_choice_s, stats.decode_s) == (1.0, 1.0, 3.0)
    assert (stats.ttft_s, stats.prefill_rate, stats.decode_rate) == (2.0, 3.0, 1.0)


@pytest.mark.parametrize("limit", [0, -1])
def test_limits_below_one_are_refused(limit: int) -> None:
    with pytest.raises(UsageError) as refused:
        Request(max_tokens=limit)
    assert refused.value.code == "arguments.max_tokens"
