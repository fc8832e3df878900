"""Many threads submit, cancel and close at once: every job that was taken ends once, and none hears of another.

Two schedulers and callers of their own share one model, its engine and its threads.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pytest

from hearth.runtime import Model, load
from hearth.runtime.serving.jobs import Event, Failed, Finished, Job, Piece
from hearth.runtime.serving.scheduler import Scheduler
from hearth.schemas.errors import HearthError

if TYPE_CHECKING:
    from conftest import Archives

WAIT_S = 120.0
PROMPTS = ([1, 2, 3], [1, 2, 3, 4, 5, 6], [7], [8, 9])
TOKENS = 5


class Heard:
    """A sink that counts."""

    def __init__(self) -> None:
        self.tokens: list[int] = []
        self.ends: list[Event] = []
        self.over = threading.Event()

    def __call__(self, event: Event) -> None:
        if isinstance(event, Piece):
            self.tokens.append(event.choice.token)
        else:
            self.ends.append(event)
            self.over.set()


@pytest.fixture(scope="module")
def model(archives: Archives) -> Model:
    return load(archives("tiny", weights="int4"), threads=2)


def job(model: Model, prompt: Sequence[int]) -> Job:
    return Job(tuple(prompt), model.request(max_tokens=TOKENS, ignore_eos=True))


def together(*works: Callable[[], None]) -> None:
    """Each in a thread of its own; their failures are the test's."""
    failures: list[BaseException] = []

    def run(work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT_S)
    assert not any(thread.is_alive() for thread in threads)
    assert not failures, failures


def client(model: Model, scheduler: Scheduler, seed: int, heard: list[tuple[int, Heard]]) -> None:
    """Submits and cancels at random, until the scheduler is closed or 40 jobs are sent."""
    rng = random.Random(seed)
    for _ in range(40):
        number, sink = rng.randrange(len(PROMPTS)), Heard()
        try:
            ticket = scheduler.submit(job(model, PROMPTS[number]), sink)
        except HearthError as refused:
            if refused.code == "resource.queue_full":
                continue
            return  # closed
        heard.append((number, sink))
        if rng.random() < 0.4:
            for _ in range(rng.choice((1, 3))):
                ticket.cancel()
        elif rng.random() < 0.3:
            sink.over.wait(WAIT_S)


@pytest.mark.parametrize("drain_s", [0.0, WAIT_S])
def test_every_job_ends_once_while_others_come_and_a_closing_races_them(
    model: Model, drain_s: float
) -> None:
    alone = [
        list(model.generate(each, pieces="ids", max_tokens=TOKENS, ignore_eos=True))
        for each in PROMPTS
    ]
    schedulers = [Scheduler(model, rows=3, queue=6) for _ in range(2)]
    heard: list[tuple[int, Heard]] = []

    def close(scheduler: Scheduler) -> None:
        threading.Event().wait(0.05)
        scheduler.close(drain_s)

    together(
        *(lambda s=each, n=n: client(model, s, n, heard) for n in range(3) for each in schedulers),
        *(lambda s=each: close(s) for each in schedulers for _ in range(2)),
    )
    for number, sink in heard:
        assert len(sink.ends) == 1
        assert not isinstance(sink.ends[0], Failed), sink.ends
        assert isinstance(sink.ends[0], Finished)
        text = "".join(alone[number])
        assert text.startswith(" ".join(map(str, sink.tokens)))
        if sink.ends[0].reason != "cancelled":
            assert len(sink.tokens) == TOKENS
    for scheduler in schedulers:
        stats = scheduler.stats()
        assert (stats.active, stats.waiting, scheduler.open) == (0, 0, False)


def test_sessions_of_several_models_in_several_threads_get_what_they_get_alone(
    archives: Archives, model: Model
) -> None:
    """Engines with pools of their own, made and dropped while others run."""
    expected = model.session().prefill(PROMPTS[1])

    def work() -> None:
        own = load(archives("tiny", weights="int4"), threads=2)
        for _ in range(5):
            assert np.array_equal(own.session().prefill(PROMPTS[1]), expected)
            assert np.array_equal(model.session().prefill(PROMPTS[1]), expected)

    together(*(work for _ in range(4)))
