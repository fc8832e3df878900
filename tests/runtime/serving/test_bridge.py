"""Threads to asyncio: events in order, errors raised, whoever leaves cancels, all or none is submitted."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest
from conftest import Archives
from support.served import FakeScheduler, service

from hearth.runtime.generation.writing import Request
from hearth.runtime.sampling import Choice
from hearth.runtime.serving.bridge import Answers, holding, in_thread
from hearth.runtime.serving.jobs import Event, Failed, Finished, Job, Piece, Usage
from hearth.runtime.serving.refusals import Refusal
from hearth.schemas.errors import ResourceError

JOB = Job((1, 2), Request())
USAGE = Usage(2, 0, 1, 0.0, 0.0, 0.0)
END = Finished("stop", USAGE)


def piece(text: str) -> Piece:
    return Piece(text, Choice(0, None, ()))


def say(scheduler: FakeScheduler, number: int, *events: Event) -> None:
    """As the scheduler's thread does."""
    sink = scheduler.tickets[number].sink
    thread = threading.Thread(target=lambda: [sink(event) for event in events])
    thread.start()
    thread.join()


def test_events_come_in_order_until_each_job_has_finished() -> None:
    async def run() -> list[tuple[int, Event]]:
        scheduler = FakeScheduler()
        async with Answers(scheduler, [JOB, JOB], None) as answers:
            say(scheduler, 1, piece("b"), END)
            say(scheduler, 0, piece("a"), END)
            return [each async for each in answers]

    assert asyncio.run(run()) == [(1, piece("b")), (1, END), (0, piece("a")), (0, END)]


def test_a_failure_is_raised_and_the_others_cancelled() -> None:
    scheduler = FakeScheduler()

    async def run() -> None:
        async with Answers(scheduler, [JOB, JOB], None) as answers:
            say(scheduler, 0, Failed(ValueError("bug")))
            async for _ in answers:
                pass

    with pytest.raises(ValueError, match="bug"):
        asyncio.run(run())
    assert all(ticket.cancelled for ticket in scheduler.tickets)


def test_a_full_queue_takes_none_of_the_jobs() -> None:
    scheduler = FakeScheduler(room=1)

    async def run() -> None:
        async with Answers(scheduler, [JOB, JOB], None):
            pass

    with pytest.raises(ResourceError, match="queue_full"):
        asyncio.run(run())
    assert [ticket.cancelled for ticket in scheduler.tickets] == [True]


def test_a_client_that_vanishes_cancels_its_job() -> None:
    scheduler = FakeScheduler()

    async def run() -> None:
        async def client() -> None:
            async with Answers(scheduler, [JOB], None) as answers:
                async for _ in answers:
                    pass

        task = asyncio.create_task(client())
        await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(run())
    assert scheduler.tickets[0].cancelled


def test_an_answer_that_takes_too_long_is_refused() -> None:
    scheduler = FakeScheduler()

    async def run() -> None:
        async with Answers(scheduler, [JOB], 0.01) as answers:
            async for _ in answers:
                pass

    with pytest.raises(Refusal) as caught:
        asyncio.run(run())
    assert caught.value.status == 504 and scheduler.tickets[0].cancelled


def test_events_after_the_loop_has_ended_are_lost_in_silence() -> None:
    scheduler = FakeScheduler()

    async def run() -> None:
        async with Answers(scheduler, [JOB], None):
            pass

    asyncio.run(run())
    say(scheduler, 0, END)


def test_what_nobody_waits_for_any_more_is_undone() -> None:
    undone: list[str] = []
    may_end = threading.Event()

    async def run() -> None:
        def work() -> str:
            may_end.wait(5)
            return "done"

        task = asyncio.create_task(in_thread(work, undone.append))
        await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        may_end.set()
        while not undone:
            await asyncio.sleep(0.001)

    asyncio.run(run())
    assert undone == ["done"]


def test_a_held_model_is_released(archives: Archives) -> None:
    found = service({"a": Path(archives("hearthside", weights="int8"))})

    async def run() -> None:
        async with holding(found, "a"):
            assert found.running()[0].users == 1
        assert found.running()[0].users == 0

    asyncio.run(run())
