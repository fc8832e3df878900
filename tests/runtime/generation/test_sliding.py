"""A context that slides: what is kept, and that what comes next is what a fresh session gives that reads it."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from support.fake_executor import FakeExecutor

from hearth.runtime.generation.generate import Generation
from hearth.runtime.generation.sliding import seen, slid, slide
from hearth.runtime.generation.writing import Full, Request
from hearth.runtime.sampling import Sampling
from hearth.runtime.session import Session
from hearth.runtime.text.detokenizer import spell_ids
from hearth.schemas.errors import InputError


def test_the_first_tokens_and_the_newest_half_stay() -> None:
    assert slid(range(64), 64) == [0, 1, 2, 3, *range(32, 64)]
    assert slid(range(1000), 64) == [0, 1, 2, 3, *range(968, 1000)]
    assert slid(range(30), 64) == list(range(30))
    assert slid(range(4), 4) == [0, 2, 3]
    assert slid(range(2), 2) == [1]


def test_a_session_that_slid_is_one_that_read_what_was_kept() -> None:
    model = FakeExecutor()
    session, fresh = Session(model), Session(model)
    session.prefill([token % 50 for token in range(64)])
    slide(session)
    fresh.prefill(slid([token % 50 for token in range(64)], 64))
    assert session.tokens == fresh.tokens
    assert np.array_equal(session.decode(9), fresh.decode(9))


def write(prompt: list[int], full: Full, count: int = 200) -> tuple[Generation, Session[object]]:
    session = Session(FakeExecutor())
    request = Request(count, sampling=Sampling(seed=3), full=full)
    return Generation(session, prompt, request, spell_ids), session  # type: ignore[return-value]


def test_a_text_goes_on_beyond_the_context() -> None:
    prompt = list(range(10))
    generation, session = write(prompt, Full.SLIDE)
    list(generation)
    assert (generation.finish_reason, len(generation.tokens)) == ("length", 200)
    held = seen(prompt, generation.tokens[:-1], 64, Full.SLIDE)
    assert list(session.tokens) == held
    step = pairwise(generation.tokens)
    assert sum((one + 1) % 50 == other for one, other in step) > 190, "the model's own text"


def test_stop_ends_there_and_error_says_so() -> None:
    generation, session = write([1, 2, 3], Full.STOP)
    list(generation)
    assert (generation.finish_reason, session.position) == ("length", 64)
    generation, session = write([1, 2, 3], Full.ERROR)
    with pytest.raises(InputError) as refused:
        list(generation)
    assert refused.value.code == "input.context_full"
    assert (generation.finish_reason, len(generation.tokens)) == ("error", 62)
    assert session.position == 64


def test_a_prompt_longer_than_the_context_slides_too() -> None:
    prompt = [token % 50 for token in range(200)]
    generation, session = write(prompt, Full.SLIDE, 5)
    list(generation)
    assert session.tokens[:36] == tuple(slid(prompt, 64))
    assert list(session.tokens) == seen(prompt, generation.tokens[:-1], 64, Full.SLIDE)


def test_cancelled_while_it_slides_the_session_is_whole() -> None:
    generation, session = write([token % 50 for token in range(64)], Full.SLIDE)
    next(generation)
    reads = session.executor.calls  # type: ignore[attr-defined]
    before = len(reads)
    prefill = session.prefill

    def cancelled(*given: object, **named: object) -> object:
        generation.cancel()
        return prefill(*given, **named)  # type: ignore[arg-type]

    session.prefill = cancelled  # type: ignore[assignment]
    assert list(generation) == []
    assert generation.finish_reason == "cancelled"
    assert len(reads) == before
    assert session.tokens == (0, 1, 2, 3)
    fresh = Session(FakeExecutor())
    fresh.prefill([0, 1, 2, 3])
    session.prefill = prefill  # type: ignore[method-assign]
    assert np.array_equal(session.decode(7), fresh.decode(7))
