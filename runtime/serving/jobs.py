"""What goes into a scheduler and what comes out: jobs, events of their texts, and what they took."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from hearth.runtime.adapters import AdapterUse
from hearth.runtime.generation.writing import Decode, FinishReason, Request
from hearth.runtime.sampling import Choice, Constraint


@dataclass(frozen=True)
class Job:
    """A text to write after the tokens of `prompt`; a constraint belongs to this job alone.

    `decode` turns ids into text (None: the model's tokenizer does). `prompt_logprobs` asks for the log probability of
    each token of the prompt, and for those of so many of the best; such a prompt is read whole, whatever is
    cached of it. `write` false: the prompt is read and nothing is written after it.
    """

    prompt: tuple[int, ...]
    request: Request
    constraint: Constraint | None = None
    adapter: AdapterUse | None = None
    decode: Decode | None = None
    prompt_logprobs: int | None = None
    write: bool = True


@dataclass(frozen=True)
class Usage:
    """What a job took so far. A token is read once: those that were found in a cache are not in `prefill_s`."""

    prompt_tokens: int
    cached_tokens: int = 0  # of the prompt, whose keys and values were there
    generated_tokens: int = 0
    queue_s: float = 0.0  # from submit to a row
    prefill_s: float = (
        0.0  # from there to the first token, other rows' shares of the steps included
    )
    decode_s: float = 0.0  # from the first token to the last
    drafted_tokens: int = 0  # guessed, to be verified in one run
    accepted_tokens: int = 0  # of them, those that were right


@dataclass(frozen=True)
class Read:
    """The next tokens of the prompt with their log probabilities, which the first of all has not."""

    tokens: tuple[Choice, ...]


@dataclass(frozen=True)
class Piece:
    """One token and the text that is complete with it, often nothing; the last one also has what was held back.

    A token that ended the text has its piece, too, with no text of its own.
    """

    text: str
    choice: Choice


@dataclass(frozen=True)
class Finished:
    """The end of a text. Nothing comes after it."""

    reason: FinishReason
    usage: Usage


@dataclass(frozen=True)
class Failed:
    """The job ended with an error: a HearthError, or a bug. Nothing comes after it."""

    error: Exception


Told = Read | Piece | Finished
Event = Told | Failed
Sink = Callable[[Event], None]


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

    def submit(self, job: Job, sink: Sink) -> Ticket: ...
    def stats(self) -> SchedulerStats: ...
    def close(self, drain_s: float = 0.0) -> None: ...
