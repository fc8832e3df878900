"""One job after the other, in a thread: what serves until the batching scheduler does."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from hearth.runtime.generate import Generation
from hearth.runtime.model import Model
from hearth.runtime.sampling import Choice
from hearth.runtime.serving.jobs import Event, Failed, Finished, Job, Piece, Usage
from hearth.runtime.session import check_room
from hearth.schemas.errors import ResourceError

Sink = Callable[[Event], None]


@dataclass
class SerialTicket:
    """A job that was taken on."""

    job: Job
    sink: Sink
    since: float = field(default_factory=time.perf_counter)
    cancelled: bool = False

    def cancel(self) -> None:
        """End before the next token."""
        self.cancelled = True


@dataclass(frozen=True)
class SerialStats:
    """How busy it is."""

    active: int
    waiting: int


class SerialScheduler:
    """Jobs in the order they came."""

    def __init__(self, model: Model, *, queue_length: int = 64) -> None:
        self._model, self._length = model, queue_length
        self._waiting: queue.Queue[SerialTicket | None] = queue.Queue()
        self._active = 0
        self._closed = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def submit(self, job: Job, sink: Sink) -> SerialTicket:
        """ResourceError `resource.queue_full` where too many wait."""
        check_room(0, len(job.prompt), self._model.context)
        if self._waiting.qsize() >= self._length:
            raise ResourceError(
                "resource.queue_full", f"{self._length} requests wait", remedy="try again later"
            )
        ticket = SerialTicket(job, sink)
        self._waiting.put(ticket)
        return ticket

    def stats(self) -> SerialStats:
        """How busy it is."""
        return SerialStats(self._active, self._waiting.qsize())

    def close(self, drain_s: float = 0.0) -> None:
        """End after so long."""
        self._waiting.put(None)
        self._thread.join(drain_s)
        self._closed = True
        self._thread.join()

    def _run(self) -> None:
        while (ticket := self._waiting.get()) is not None:
            self._active = 1
            try:
                self._write(ticket)
            except Exception as error:
                ticket.sink(Failed(error))
            self._active = 0

    def _write(self, ticket: SerialTicket) -> None:
        job, began = ticket.job, time.perf_counter()
        session = self._model.session(adapter=job.adapter)
        generation = Generation(session, job.prompt, job.request, self._model.tokenizer.decode)
        told = 0
        for piece in generation:
            if ticket.cancelled or self._closed:
                generation.cancel()
            for token in generation.tokens[told:-1]:
                ticket.sink(Piece("", Choice(token, None, ())))
            ticket.sink(Piece(piece, Choice(generation.tokens[-1], None, ())))
            told = len(generation.tokens)
        stats = generation.stats
        usage = Usage(
            len(job.prompt),
            0,
            stats.generated_tokens,
            began - ticket.since,
            stats.prefill_s,
            stats.decode_s,
        )
        assert generation.finish_reason is not None
        ticket.sink(Finished(generation.finish_reason, usage))
