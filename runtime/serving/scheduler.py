"""Continuous batching: one thread serves all requests of a model, each of them as if it were alone."""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import dataclass, replace
from typing import Any, Literal

from hearth.runtime.adapters import AdapterUse, check_known
from hearth.runtime.contexts.prefix_cache import PrefixCache, PrefixStats
from hearth.runtime.generation.writing import Full, Writer
from hearth.runtime.model import Model
from hearth.runtime.serving.jobs import Event, Failed, Finished, Job, Piece, Read, Sink, Usage
from hearth.runtime.serving.pacing import GAP_S
from hearth.runtime.serving.rows import Clock, Row, Ticket
from hearth.runtime.serving.stepping import Rows
from hearth.runtime.session import Session, check_room, checked_ids
from hearth.runtime.speculative.choice import drafter_of
from hearth.runtime.speculative.drafter import Drafter
from hearth.runtime.text.detokenizer import spell_ids
from hearth.schemas.errors import ResourceError, UsageError

__all__ = [
    "Event",
    "Failed",
    "Finished",
    "Job",
    "Piece",
    "Read",
    "Scheduler",
    "SchedulerStats",
    "Sink",
    "Ticket",
    "Usage",
]


NO_PREFIXES = PrefixStats(0, 0, 0, 0, 0, 0)


@dataclass(frozen=True)
class SchedulerStats:
    """What is served now, and what was since the start (counts of jobs that ended, of their tokens)."""

    rows: int
    queue: int
    active: int
    waiting: int
    jobs: int = 0
    steps: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    generated_tokens: int = 0
    drafted_tokens: int = 0
    accepted_tokens: int = 0
    prefixes: PrefixStats = NO_PREFIXES


class Scheduler:
    """Serves at most `rows` jobs at once, and lets `queue` more wait.

    Each step is a token for every row that writes and a share of the prompts, the shortest first, as large as lets the
    step end in about `gap_s` seconds (pacing.py). Sinks are called from the scheduler's thread and must not block; one
    that raises has its job cancelled. A job's tokens are those that `Model.generate` gives it alone, to the bit.
    `submit`, `stats` and `close` may be called from any thread.
    Keys and values of what was read are kept in up to `prefix_nbytes` (prefix_cache.py), so that how several prompts
    begin is read once, also where they come at the same time. A `draft` guesses tokens where few rows write.
    """

    def __init__(
        self,
        model: Model,
        *,
        rows: int = 8,
        queue: int = 64,
        prefix_nbytes: int = 256 << 20,
        gap_s: float = GAP_S,
        draft: Model | Literal["lookup"] | None = None,
        clock: Clock = time.perf_counter,
    ) -> None:
        _check("rows", rows, 1)
        _check("queue", queue, 0)
        _check("prefix_nbytes", prefix_nbytes, 0)
        _check("gap_s", gap_s, 0)
        self.model = model
        self._clock = clock
        self._decode = model.tokenizer.decode if model.has_tokenizer else spell_ids
        self._prefixes = PrefixCache(prefix_nbytes, model.pinned)
        self._serving = Rows(model, self._prefixes, gap_s, clock)
        self._free: list[Session[Any]] = []  # kept, since their memory is what costs
        self._draft = draft
        self._drafters = [] if draft is None else [drafter_of(draft, model)]
        self._waiting: deque[Ticket] = deque()
        self._changed = threading.Condition()
        self._active = 0  # tickets that have left the queue and not ended
        self._open, self._deadline = True, 0.0
        self._stats = SchedulerStats(rows, queue, 0, 0)
        self._thread = threading.Thread(target=self._serve, name="hearth-scheduler", daemon=True)
        self._thread.start()

    def submit(self, job: Job, sink: Sink) -> Ticket:
        """Queue a job. Its events go to the sink: pieces, then Finished or Failed.

        Raises ResourceError `resource.queue_full` (ask again later) and `resource.closed`, and what is wrong
        with the job: InputError for its ids, UsageError for its adapter, biases and bans.
        """
        prompt = checked_ids(job.prompt, self.model.vocab)
        if job.request.full is not Full.SLIDE or job.prompt_logprobs is not None:
            check_room(0, len(prompt), self.model.context)
        check_known(job.adapter, self.model.adapters)
        job.request.sampling.check_vocabulary(self.model.vocab)
        decode = job.decode or self._decode
        writer = Writer(job.request, job.prompt, decode, constraint=job.constraint)
        ticket = Ticket(job, writer, sink, self._clock(), self._wake)
        with self._changed:
            self._check_open()
            self._waiting.append(ticket)
            self._changed.notify()
        return ticket

    @property
    def open(self) -> bool:
        """Whether jobs are taken: `close` has not been called."""
        return self._open

    def stats(self) -> SchedulerStats:
        """A look at it now."""
        with self._changed:
            now = replace(self._stats, active=self._active, waiting=len(self._waiting))
        return replace(now, prefixes=self._prefixes.stats)

    def close(self, drain_s: float = 0.0) -> None:
        """Take no more jobs, let those that are here go on for so many seconds, cancel the rest, and stop."""
        with self._changed:
            self._open, self._deadline = False, self._clock() + drain_s
            self._changed.notify()
        self._thread.join()

    def _check_open(self) -> None:
        if not self._open:
            raise ResourceError(
                "resource.closed",
                "no more requests are taken: the scheduler is closing",
                remedy="ask again once it has been started anew",
            )
        if self._active + len(self._waiting) >= self._stats.rows + self._stats.queue:
            raise ResourceError(
                "resource.queue_full",
                f"{self._active} requests are served and {len(self._waiting)} wait",
                expected=f"at most {self._stats.rows} and {self._stats.queue}",
                remedy="ask again later",
            )

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify()

    def _serve(self) -> None:
        """The thread: admit, step, let go, until closed and empty."""
        while (admitted := self._admit()) is not None:
            for ticket in admitted:
                self._start(ticket)
            self._end_the_cancelled()
            self._let_go()
            if len(self._serving):
                self._step()
            self._let_go()

    def _admit(self) -> list[Ticket] | None:
        """Those that leave the queue now, for a row or cancelled; waits while there is nothing to do; None: the end."""
        with self._changed:
            while self._open and not (self._waiting or self._active):
                self._changed.wait()
            if not (self._waiting or self._active):
                return None
            late = not self._open and self._clock() >= self._deadline
            for ticket in [*self._waiting, *(row.ticket for row in self._serving)] if late else ():
                ticket.cancelled.set()
            leaving = [ticket for ticket in self._waiting if ticket.cancelled.is_set()]
            staying = [ticket for ticket in self._waiting if not ticket.cancelled.is_set()]
            free = self._stats.rows - self._active
            self._waiting = deque(staying[free:])
            admitted = leaving + staying[:free]
            self._active += len(admitted)
            return admitted

    def _start(self, ticket: Ticket) -> None:
        """Give it a session, unless it is over before that."""
        if ticket.cancelled.is_set():
            self._end(ticket, Finished("cancelled", self._waited(ticket)))
            return
        try:
            self.model.bind_adapter(ticket.job.adapter)  # a damaged one is not to fail a whole step
            session = self._session(ticket.job)
            self._serving.add(Row(ticket, session, self._clock, self._drafter()))
        except Exception as error:
            self._end(ticket, Failed(error))

    def _end(self, ticket: Ticket, event: Finished | Failed) -> None:
        ticket.tell(event)
        self._count([self._waited(ticket)])

    def _waited(self, ticket: Ticket) -> Usage:
        return Usage(len(ticket.job.prompt), queue_s=self._clock() - ticket.submitted)

    def _session(self, job: Job) -> Session[Any]:
        """A free one, best one that has read how the prompt begins."""
        if not self._free:
            self._free.append(self.model.session())
        for session in self._free:
            _read_with(session, job.adapter)
        session = max(self._free, key=lambda session: session.shared(job.prompt))
        self._free.remove(session)
        return session

    def _drafter(self) -> Drafter | None:
        if self._draft is None:
            return None
        drafter = self._drafters.pop() if self._drafters else drafter_of(self._draft, self.model)
        drafter.forget()
        return drafter

    def _end_the_cancelled(self) -> None:
        for row in self._serving:
            if row.ticket.cancelled.is_set():
                row.cancel()

    def _step(self) -> None:
        try:
            self._serving.step()
        except Exception as error:  # of the model, not of a row: nobody can go on
            for row in self._serving:
                row.fail(error)
        with self._changed:
            self._stats = replace(self._stats, steps=self._stats.steps + 1)

    def _let_go(self) -> None:
        gone = self._serving.let_go()
        self._free += [row.session for row in gone]
        self._drafters += [row.drafter for row in gone if row.drafter is not None]
        if gone:
            self._count([row.usage() for row in gone])

    def _count(self, ended: list[Usage]) -> None:
        with self._changed:
            self._active -= len(ended)
            sums = {
                name: getattr(self._stats, name) + sum(getattr(usage, name) for usage in ended)
                for name in COUNTED
            }
            self._stats = replace(self._stats, jobs=self._stats.jobs + len(ended), **sums)


def _read_with(session: Session[Any], adapter: AdapterUse | None) -> None:
    if adapter is None:
        session.use_adapter(None)
    else:
        session.use_adapter(adapter.name, adapter.scale)


COUNTED = (
    "prompt_tokens", "cached_tokens", "generated_tokens", "drafted_tokens", "accepted_tokens",
)  # fmt: skip


def _check(name: str, value: float, least: int) -> None:
    if not value >= least:
        raise UsageError("arguments.serving", f"{name} is {value}", expected=f"at least {least}")
