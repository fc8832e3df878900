"""From threads to asyncio: models held and jobs heard by coroutines; one that is left cancels its jobs.

What a job says is kept until it is read. That is bounded by its tokens, so a slow reader holds up nobody and
costs little memory.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Self, TypeVar

from hearth.runtime.serving.held import Held
from hearth.runtime.serving.jobs import Event, Failed, Finished, Job, Scheduler, Ticket, Told
from hearth.runtime.serving.refusals import Refusal
from hearth.runtime.serving.service import Service

T = TypeVar("T")


@asynccontextmanager
async def holding(
    service: Service, name: str, keep_alive_s: float | None = None
) -> AsyncIterator[Held]:
    """A model by its name, loaded in a thread where it is not; errors as of `Service.hold`."""
    held = await in_thread(lambda: service.hold(name), service.release)
    try:
        yield held
    finally:
        service.release(held, keep_alive_s)


async def in_thread(work: Callable[[], T], undo: Callable[[T], None] | None = None) -> T:
    """What `work` returns. A coroutine cancelled meanwhile does not get it: `undo` is given it instead."""
    task = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        task.add_done_callback(lambda done: _undo(done, undo))
        raise


def _undo(done: asyncio.Future[T], undo: Callable[[T], None] | None) -> None:
    if not done.cancelled() and done.exception() is None and undo is not None:
        undo(done.result())


class Answers:
    """What several jobs say, as pairs (number of the job, event), until each has finished.

    `async with Answers(scheduler, jobs, deadline_s) as answers: async for number, event in answers: ...`. Entering
    submits all or none (ResourceError `resource.queue_full`). A job that failed raises its error. Leaving cancels
    what still runs. Beyond the deadline: Refusal 504.
    """

    def __init__(self, scheduler: Scheduler, jobs: Sequence[Job], deadline_s: float | None) -> None:
        self._scheduler, self._jobs, self._deadline_s = scheduler, jobs, deadline_s
        self._events: deque[tuple[int, Event]] = deque()
        self._tickets: list[Ticket] = []
        self._left = len(jobs)

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._news = asyncio.Event()
        self._ends = None if self._deadline_s is None else self._loop.time() + self._deadline_s
        try:
            for number, job in enumerate(self._jobs):
                self._tickets.append(self._scheduler.submit(job, self._sink(number)))
        except BaseException:
            self.cancel()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.cancel()

    def cancel(self) -> None:
        """End every job; those that have ended are left alone."""
        for ticket in self._tickets:
            ticket.cancel()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> tuple[int, Told]:
        if not self._left:
            raise StopAsyncIteration
        number, event = await self._next()
        match event:
            case Failed(error):
                raise error
            case Finished():
                self._left -= 1
        return number, event

    async def _next(self) -> tuple[int, Event]:
        while not self._events:
            self._news.clear()
            try:
                async with asyncio.timeout_at(self._ends):
                    await self._news.wait()
            except TimeoutError:
                raise out_of_time(self._deadline_s) from None
        return self._events.popleft()

    def _sink(self, number: int) -> Callable[[Event], None]:
        """Called by the scheduler's thread; after the loop has ended nobody listens."""

        def hear(event: Event) -> None:
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._keep, number, event)

        return hear

    def _keep(self, number: int, event: Event) -> None:
        self._events.append((number, event))
        self._news.set()


def out_of_time(seconds: float | None) -> Refusal:
    """The answer to a request that takes longer than the server allows."""
    return Refusal(504, f"the answer took longer than {seconds:g} seconds", code="timeout")
