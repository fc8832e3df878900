"""What servers give a scheduler and what they hear of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from hearth.runtime.adapters import AdapterUse
from hearth.runtime.sampling import Choice, Constraint
from hearth.runtime.writing import FinishReason, Request


@dataclass(frozen=True)
class Job:
    """One sequence to be continued."""

    prompt: tuple[int, ...]
    request: Request
    constraint: Constraint | None = None
    adapter: AdapterUse | None = None


@dataclass(frozen=True)
class Usage:
    """What a job took; of `prompt_tokens`, `cached_tokens` were not read again. Times in seconds."""

    prompt_tokens: int
    cached_tokens: int
    generated_tokens: int
    queue_s: float
    prefill_s: float
    decode_s: float


@dataclass(frozen=True)
class Piece:
    """A token was chosen; `text` is what it completes (often a word, sometimes nothing)."""

    text: str
    choice: Choice


@dataclass(frozen=True)
class Finished:
    """The last event of a job that ended as it should."""

    reason: FinishReason
    usage: Usage


@dataclass(frozen=True)
class Failed:
    """The last event of a job that did not."""

    error: Exception


Event = Piece | Finished | Failed


class Ticket(Protocol):
    """A job that was taken on."""

    def cancel(self) -> None: ...


class SchedulerStats(Protocol):
    """How busy a scheduler is."""

    @property
    def active(self) -> int: ...
    @property
    def waiting(self) -> int: ...


class Scheduler(Protocol):
    """Runs jobs side by side. `sink` is called from its thread and must not block."""

    def submit(self, job: Job, sink: Callable[[Event], None]) -> Ticket: ...
    def stats(self) -> SchedulerStats: ...
    def close(self, drain_s: float = 0.0) -> None: ...
