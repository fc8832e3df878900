"""Many jobs at once: each gets what it gets alone; queues, cancels and failures touch nobody else."""

from __future__ import annotations

import gc
import itertools
import math
import random
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from hearth.runtime import Model, load
from hearth.runtime.adapters import AdapterUse
from hearth.runtime.generation.generate import Generation
from hearth.runtime.generation.writing import FinishReason
from hearth.runtime.serving.pacing import LEAST, START
from hearth.runtime.serving.scheduler import (
    Event,
    Failed,
    Finished,
    Job,
    Piece,
    Scheduler,
    Ticket,
)
from hearth.runtime.text.detokenizer import spell_ids
from hearth.schemas.errors import HearthError

if TYPE_CHECKING:
    from conftest import Archives

WAIT_S = 60.0


class Inbox:
    """A sink that keeps the events, may cancel its job after some of them, and may block on purpose."""

    def __init__(
        self, cancel_after: int | None = None, gate: threading.Event | None = None
    ) -> None:
        self.events: list[Event] = []
        self.over, self.started = threading.Event(), threading.Event()
        self.cancel_after, self.gate = cancel_after, gate
        self.ticket: Ticket | None = None

    def __call__(self, event: Event) -> None:
        assert not self.over.is_set(), "nothing comes after the end"
        self.events.append(event)
        self.started.set()
        if not isinstance(event, Piece):
            self.over.set()
        elif self.gate is not None:
            assert self.gate.wait(WAIT_S)
        elif self.ticket is not None and len(self.events) == self.cancel_after:
            self.ticket.cancel()

    def end(self) -> Finished | Failed:
        assert self.over.wait(WAIT_S)
        last = self.events[-1]
        assert not isinstance(last, Piece)
        return last

    def finished(self) -> Finished:
        end = self.end()
        assert isinstance(end, Finished), end
        return end

    @property
    def tokens(self) -> list[int]:
        return [event.choice.token for event in self.events if isinstance(event, Piece)]

    @property
    def text(self) -> str:
        return "".join(event.text for event in self.events if isinstance(event, Piece))


@pytest.fixture(scope="module")
def model(archives: Archives) -> Model:
    return load(archives("tiny", weights="int4"), threads=2)


@pytest.fixture
def scheduler(model: Model) -> Iterator[Scheduler]:
    serving = Scheduler(model, rows=3, queue=4)
    yield serving
    serving.close()


def job(model: Model, prompt: list[int], **wishes: Any) -> Job:
    wishes = {"ignore_eos": True, "max_tokens": 6} | wishes
    return Job(tuple(prompt), model.request(**wishes))


def alone(model: Model, work: Job) -> tuple[list[int], str, FinishReason | None]:
    generation = Generation(model.session(), work.prompt, work.request, spell_ids)
    list(generation)
    return generation.tokens, generation.text, generation.finish_reason


def send(scheduler: Scheduler, work: Job, cancel_after: int | None = None) -> Inbox:
    inbox = Inbox(cancel_after)
    inbox.ticket = scheduler.submit(work, inbox)
    return inbox


def held(scheduler: Scheduler, work: Job) -> Inbox:
    """A job that stays in its row, and the whole scheduler with it, until its gate is set."""
    inbox = Inbox(gate=threading.Event())
    inbox.ticket = scheduler.submit(work, inbox)
    assert inbox.started.wait(WAIT_S)
    return inbox


def release(inbox: Inbox) -> None:
    assert inbox.gate is not None
    inbox.gate.set()


def test_one_job(model: Model, scheduler: Scheduler) -> None:
    work = job(model, [1, 2, 3])
    inbox = send(scheduler, work)
    end = inbox.finished()
    assert (inbox.tokens, inbox.text, end.reason) == alone(model, work)
    assert (end.usage.prompt_tokens, end.usage.generated_tokens) == (3, 6)
    assert min(end.usage.queue_s, end.usage.prefill_s, end.usage.decode_s) >= 0


def drawn(model: Model, rng: random.Random) -> Job:
    """Prompts from one token to the whole context, any sampling."""
    size = rng.choice((1, 3, rng.randint(1, model.context), model.context - rng.randint(0, 3)))
    sampled = {
        "temperature": rng.choice((0.7, 30.0, 60.0)),  # the model is sure of itself
        "top_k": rng.choice((0, 5)),
        "top_p": rng.choice((0.5, 1.0)),
        "seed": rng.randint(0, 99),
    }
    return job(
        model,
        rng.choices(range(model.vocab), k=size),
        max_tokens=rng.choice((1, 5, 40, None)),
        stop=rng.choice(((), ("7 1", "3 "))),
        repetition_penalty=rng.choice((1.0, 9.0)),
        **rng.choice(({}, sampled)),
    )


@pytest.fixture(scope="module")
def twin(archives: Archives) -> Model:
    """The same weights in other bits, a draft that is often right."""
    return load(archives("tiny", weights="int8"), threads=1)


@pytest.mark.parametrize("seed", range(9))
def test_jobs_at_random_get_what_they_get_alone(model: Model, twin: Model, seed: int) -> None:
    """They arrive at any time; of those cancelled what came is how they begin alone. Drafts change nothing."""
    rng = random.Random(seed)
    drafts: tuple[Any, ...] = (None, "lookup", twin)
    scheduler = Scheduler(model, rows=rng.randint(1, 5), queue=99, draft=drafts[seed % 3])
    sent: list[tuple[Job, Inbox]] = []
    for _ in range(24):
        work = drawn(model, rng)
        sent.append((work, send(scheduler, work, rng.choice((None, None, 1, 4)))))
        _, anybody = rng.choice(sent)
        if rng.random() < 0.3:
            anybody.started.wait(0.01)
        if rng.random() < 0.1 and anybody.ticket is not None:
            anybody.ticket.cancel()
    for work, inbox in sent:
        end, (tokens, text, reason) = inbox.finished(), alone(model, work)
        if end.reason == "cancelled":
            assert inbox.tokens == tokens[: len(inbox.tokens)]
            assert text.startswith(inbox.text)
        else:
            assert (inbox.tokens, inbox.text, end.reason) == (tokens, text, reason)
    scheduler.close()
    stats = scheduler.stats()
    assert (stats.active, stats.waiting, stats.jobs) == (0, 0, 24)
    assert stats.generated_tokens == sum(len(inbox.tokens) for _, inbox in sent)
    assert (stats.accepted_tokens > 0) == (seed % 3 > 0)


def test_a_full_queue_refuses_at_once_and_takes_again_later(
    model: Model, scheduler: Scheduler
) -> None:
    first = held(scheduler, job(model, [1, 2]))
    others = [send(scheduler, job(model, [token])) for token in range(6)]
    with pytest.raises(HearthError) as refused:
        scheduler.submit(job(model, [9]), Inbox())
    assert refused.value.code == "resource.queue_full"
    assert (scheduler.stats().active, scheduler.stats().waiting) == (1, 6)
    release(first)
    assert [each.finished().reason for each in others] == ["length"] * 6
    assert send(scheduler, job(model, [9])).finished().reason == "length"


def test_a_job_may_be_cancelled_while_it_waits(model: Model) -> None:
    scheduler = Scheduler(model, rows=1, queue=4)
    first = held(scheduler, job(model, [1, 2]))
    second, third = (send(scheduler, job(model, [token])) for token in (5, 6))
    assert second.ticket is not None
    second.ticket.cancel()
    second.ticket.cancel()
    release(first)
    end = second.finished()
    assert (end.reason, end.usage.generated_tokens, second.tokens) == ("cancelled", 0, [])
    assert third.finished().reason == first.finished().reason == "length"
    scheduler.close()


def test_a_client_that_vanishes_frees_its_row(model: Model) -> None:
    def vanish(event: Event) -> None:
        raise BrokenPipeError

    scheduler = Scheduler(model, rows=1, queue=4)
    scheduler.submit(job(model, [1], max_tokens=None), vanish)
    assert send(scheduler, job(model, [2])).finished().reason == "length"
    scheduler.close()
    stats = scheduler.stats()
    assert (stats.jobs, stats.generated_tokens) == (2, 7)


def test_bad_jobs_are_refused_when_submitted(model: Model, scheduler: Scheduler) -> None:
    good = model.request()
    for work, code in [
        (Job((), good), "input.empty"),
        (Job((model.vocab,), good), "input.token_range"),
        (Job((1,) * (model.context + 1), good), "input.context_full"),
        (Job((1,), good, adapter=AdapterUse("nobody")), "arguments.adapter"),
    ]:
        with pytest.raises(HearthError) as refused:
            scheduler.submit(work, Inbox())
        assert refused.value.code == code
    assert scheduler.stats().waiting == 0
    for fields in ({"rows": 0}, {"queue": -1}):
        with pytest.raises(HearthError) as refused:
            Scheduler(model, **fields)
        assert refused.value.code == "arguments.serving"


def test_logits_that_are_not_finite_fail_one_row_alone(
    model: Model, scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    works = [job(model, [token, 4], max_tokens=30) for token in (11, 42, 13)]
    expected = [alone(model, work) for work in works]
    run_segments, spoiled = Model.run_segments, set()

    def run(self: Model, segments: Any, tokens: np.ndarray, logits: np.ndarray) -> None:
        run_segments(self, segments, tokens, logits)
        row = token = 0
        for segment in segments:
            if segment.position == 0 and tokens[token] == 42:
                spoiled.add(id(segment.state))
            if id(segment.state) in spoiled and segment.position > 9:
                logits[row : row + segment.rows] = np.nan
            row, token = row + segment.rows, token + segment.tokens

    monkeypatch.setattr(Model, "run_segments", run)
    gate = held(scheduler, job(model, [1]))
    inboxes = [send(scheduler, work) for work in works]
    release(gate)
    end = inboxes[1].end()
    assert isinstance(end, Failed)
    assert isinstance(end.error, HearthError)
    assert end.error.code == "input.logits"
    for inbox, due in list(zip(inboxes, expected, strict=True))[::2]:
        assert (inbox.finished().reason, inbox.tokens) == (due[2], due[0])
    assert inboxes[1].tokens == expected[1][0][: len(inboxes[1].tokens)]


def test_a_model_that_fails_fails_the_rows_and_not_the_scheduler(
    model: Model, scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> None:
        raise MemoryError("no more")

    with monkeypatch.context() as patch:
        patch.setattr(Model, "run", broken)
        patch.setattr(Model, "run_segments", broken)
        end = send(scheduler, job(model, [1])).end()
        assert isinstance(end, Failed)
        assert isinstance(end.error, MemoryError)
    assert send(scheduler, job(model, [1])).finished().reason == "length"


def test_a_session_that_cannot_be_made_fails_its_job_alone(
    model: Model, scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> None:
        raise MemoryError("no more")

    with monkeypatch.context() as patch:
        patch.setattr(Model, "session", broken)
        assert isinstance(send(scheduler, job(model, [1])).end(), Failed)
    assert send(scheduler, job(model, [1])).finished().reason == "length"


@pytest.mark.parametrize(("drain_s", "reason"), [(WAIT_S, "length"), (0.0, "cancelled")])
def test_closing_drains_or_cancels(model: Model, drain_s: float, reason: str) -> None:
    scheduler = Scheduler(model, rows=1, queue=4)
    first = held(scheduler, job(model, [1]))
    second = send(scheduler, job(model, [2]))
    closing = threading.Thread(target=scheduler.close, args=(drain_s,))
    closing.start()
    while scheduler.open:
        closing.join(0.001)
    with pytest.raises(HearthError) as refused:
        scheduler.submit(job(model, [3]), Inbox())
    assert refused.value.code == "resource.closed"
    release(first)
    assert first.finished().reason == second.finished().reason == reason
    closing.join(WAIT_S)
    assert not closing.is_alive()
    scheduler.close()


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many tokens each run of the model reads."""
    found: list[int] = []
    run, run_segments = Model.run, Model.run_segments

    def one(self: Model, state: Any, entry: str, tokens: np.ndarray, *rest: Any) -> None:
        found.append(len(tokens))
        run(self, state, entry, tokens, *rest)

    def several(self: Model, segments: Any, tokens: np.ndarray, logits: np.ndarray) -> None:
        found.append(len(tokens))
        run_segments(self, segments, tokens, logits)

    monkeypatch.setattr(Model, "run", one)
    monkeypatch.setattr(Model, "run_segments", several)
    return found


@pytest.mark.parametrize("prefix_nbytes", [1 << 20, 0])
def test_shared_prompts_are_read_once(model: Model, read: list[int], prefix_nbytes: int) -> None:
    """Those that come together, and those that come later; without a cache the answers are the same."""
    system = list(range(60))
    works = [job(model, [*system, token, 7, token], max_tokens=4) for token in range(5)]
    due = [alone(model, work) for work in works]
    read.clear()
    scheduler = Scheduler(model, rows=3, queue=9, prefix_nbytes=prefix_nbytes)
    gate = held(scheduler, job(model, [1], max_tokens=1))
    inboxes = [send(scheduler, work) for work in works]
    release(gate)
    for inbox, expected in zip(inboxes, due, strict=True):
        end = inbox.finished()
        assert (inbox.tokens, inbox.text, end.reason) == expected
    again = send(scheduler, works[2])
    assert again.finished().usage.cached_tokens == 62
    assert again.tokens == due[2][0]
    scheduler.close()
    usages = [inbox.finished().usage for inbox in inboxes]
    if prefix_nbytes:
        assert [usage.cached_tokens for usage in usages] == [0, 60, 60, 60, 60]
        assert sum(read) == 1 + 60 + 5 * 3 + 5 * 3 + 1 + 3
    assert sum(read) == 1 + 6 * 63 - sum(u.cached_tokens for u in usages) - 62 + 6 * 3
    assert scheduler.stats().cached_tokens == sum(u.cached_tokens for u in usages) + 62
    assert (scheduler.stats().prefixes.nbytes > 0) == bool(prefix_nbytes)


class Told:
    """Who heard something, in order."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def to(self, name: str, inbox: Inbox) -> Callable[[Event], None]:
        def hear(event: Event) -> None:
            self.names.append(name)
            inbox(event)

        return hear


def test_a_short_prompt_does_not_wait_for_a_long_one(model: Model, read: list[int]) -> None:
    """Nor does a text for either: on a slow machine no step but the first reads more than the least."""
    told = Told()
    scheduler = Scheduler(model, rows=3, clock=itertools.count().__next__)
    writer = Inbox(gate=threading.Event())
    scheduler.submit(job(model, [1], max_tokens=30), told.to("writer", writer))
    assert writer.started.wait(WAIT_S)
    late = [Inbox(), Inbox()]
    for name, inbox, size in (("long", late[0], 120), ("short", late[1], 5)):
        work = job(model, [(7 * i + size) % 97 for i in range(size)], max_tokens=2)
        scheduler.submit(work, told.to(name, inbox))
    read.clear()
    release(writer)
    for inbox in (writer, *late):
        inbox.finished()
    scheduler.close()
    names = told.names
    assert names[: names.index("short")].count("writer") == 1 + 1
    assert names[: names.index("long")].count("writer") == 1 + 1 + math.ceil((125 - 23) / LEAST)
    assert read[0] == START
    assert max(read[1:]) == 2 + LEAST  # the short one writes by then


def test_a_long_prompt_goes_on_however_many_short_ones_come(model: Model) -> None:
    told, over = Told(), threading.Event()
    scheduler = Scheduler(model, rows=4, clock=itertools.count().__next__)
    writer, long = Inbox(gate=threading.Event()), Inbox()
    works = [job(model, [n] * 30, max_tokens=1) for n in range(2, 90)]

    def again(event: Event) -> None:
        if isinstance(event, Finished) and works and not over.is_set():
            scheduler.submit(works.pop(), again)

    scheduler.submit(job(model, [1], max_tokens=100), told.to("writer", writer))
    assert writer.started.wait(WAIT_S)
    scheduler.submit(job(model, list(range(96)), max_tokens=1), told.to("long", long))
    for _ in range(2):
        scheduler.submit(works.pop(), again)
    release(writer)
    long.finished()
    over.set()
    writer.finished()
    scheduler.close()
    assert works
    assert "writer" in told.names[told.names.index("long") :]


def test_sessions_are_used_again(
    model: Model, scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[int] = []
    new_state = Model.new_state
    monkeypatch.setattr(Model, "new_state", lambda self: made.append(1) or new_state(self))
    for inbox in [send(scheduler, job(model, [token])) for token in range(7)]:
        inbox.finished()
    assert len(made) <= 3


def test_a_job_that_ended_is_let_go(model: Model) -> None:
    """A sink that knows its ticket (as those that cancel do) makes no circle that waits for the collector."""
    scheduler = Scheduler(model)
    inbox = Inbox()
    inbox.ticket = scheduler.submit(Job((3, 4), model.request(max_tokens=2)), inbox)
    inbox.finished()
    kept = weakref.ref(inbox)
    gc.disable()
    try:
        scheduler.close()  # the row is put away
        del inbox
        assert kept() is None
    finally:
        gc.enable()
