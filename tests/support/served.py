"""A service over archives with a scheduler that a test controls."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hearth.runtime.serving.jobs import Event, Job
from hearth.runtime.serving.service import Service
from hearth.runtime.serving.settings import Settings
from hearth.schemas.errors import ResourceError


@dataclass
class FakeTicket:
    """A job: the test says its events through `sink`."""

    job: Job
    sink: Callable[[Event], None]
    cancelled: bool = False

    def cancel(self) -> None:
        self.cancelled = True


@dataclass(frozen=True)
class FakeStats:
    active: int = 0
    waiting: int = 0


@dataclass
class FakeScheduler:
    """Takes `room` jobs on and runs none of them."""

    room: int = 8
    tickets: list[FakeTicket] = field(default_factory=list)
    closed: float | None = None

    def submit(self, job: Job, sink: Callable[[Event], None]) -> FakeTicket:
        if len(self.tickets) == self.room:
            raise ResourceError("resource.queue_full", "full", remedy="wait")
        self.tickets.append(FakeTicket(job, sink))
        return self.tickets[-1]

    def stats(self) -> Any:
        return FakeStats()

    def close(self, drain_s: float = 0.0) -> None:
        self.closed = drain_s


@dataclass
class Clock:
    """Time that a test moves."""

    now: float = 0.0

    def __call__(self) -> float:
        return self.now


def service(files: Mapping[str, Path], clock: Clock | None = None, **settings: Any) -> Service:
    """A service whose decoders have fake schedulers."""
    return Service(files, Settings(**settings), lambda model: FakeScheduler(), clock or Clock())
