"""Contexts that slide in a scheduler: every text is the one that its job gives alone, whoever is beside it."""

from __future__ import annotations

import queue
from typing import TYPE_CHECKING, Literal

import numpy as np
import pytest

from hearth.runtime import Model, load
from hearth.runtime.generation.generate import Generation
from hearth.runtime.generation.writing import Full
from hearth.runtime.serving.jobs import Event, Failed, Finished, Job, Piece
from hearth.runtime.serving.scheduler import Scheduler
from hearth.runtime.text.detokenizer import spell_ids
from hearth.schemas.errors import InputError

if TYPE_CHECKING:
    from conftest import Archives

WAIT_S = 60


@pytest.fixture(scope="module")
def model(archives: Archives) -> Model:
    return load(archives("tiny", weights="int4"), threads=2)


def jobs(model: Model, full: Full) -> list[Job]:
    rng = np.random.default_rng(4)
    sizes = (1, 5, model.context - 1, model.context, 3)
    return [
        Job(
            tuple(rng.integers(0, model.vocab, size).tolist()),
            model.request(
                max_tokens=3 * model.context,
                ignore_eos=True,
                temperature=30.0,
                seed=size,
                full=full,
            ),
        )
        for size in sizes
    ]


def serve(model: Model, works: list[Job], draft: Literal["lookup"] | None) -> list[list[Event]]:
    inboxes: list[queue.Queue[Event]] = [queue.Queue() for _ in works]
    scheduler = Scheduler(model, rows=3, queue=len(works), draft=draft)
    for work, inbox in zip(works, inboxes, strict=True):
        scheduler.submit(work, inbox.put)
    found = [[inbox.get(timeout=WAIT_S)] for inbox in inboxes]
    for events, inbox in zip(found, inboxes, strict=True):
        while isinstance(events[-1], Piece):
            events.append(inbox.get(timeout=WAIT_S))
    scheduler.close()
    return found


@pytest.mark.parametrize("draft", [None, "lookup"])
def test_each_text_is_the_one_it_is_alone(model: Model, draft: Literal["lookup"] | None) -> None:
    works = jobs(model, Full.SLIDE)
    long = Job(tuple([7, 9] * model.context), works[0].request)
    for work, events in zip([*works, long], serve(model, [*works, long], draft), strict=True):
        alone = Generation(model.session(), work.prompt, work.request, spell_ids)
        list(alone)
        assert [each.choice.token for each in events if isinstance(each, Piece)] == alone.tokens
        assert isinstance(events[-1], Finished)
        assert (events[-1].reason, len(alone.tokens)) == ("length", 3 * model.context)


def test_an_error_at_a_full_context_ends_that_row_alone(model: Model) -> None:
    works = jobs(model, Full.ERROR)[:2] + jobs(model, Full.STOP)[:1]
    one, two, three = serve(model, works, None)
    for events in (one, two):
        assert isinstance(events[-1], Failed)
        assert isinstance(events[-1].error, InputError)
        assert events[-1].error.code == "input.context_full"
    assert isinstance(three[-1], Finished)
