"""A row: one job while it is served, as the tokens to be read next and what becomes of the logits after them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any

from hearth.runtime.batch import Turn
from hearth.runtime.prefix_cache import PrefixCache
from hearth.runtime.serving.jobs import Event, Failed, Finished, Job, Piece, Sink, Usage
from hearth.runtime.session import Logits, Session
from hearth.runtime.writing import Writer

Clock = Callable[[], float]


@dataclass(eq=False)
class Ticket:
    """A job that was submitted; `cancel` may be called from any thread, at any time, more than once."""

    job: Job
    writer: Writer
    sink: Sink
    submitted: float
    changed: Callable[[], None]
    cancelled: threading.Event = field(default_factory=threading.Event)

    def cancel(self) -> None:
        """End it after the step that runs now. It then finishes as "cancelled", unless it had ended."""
        self.cancelled.set()
        self.changed()

    def tell(self, event: Event) -> bool:
        """Give the sink an event; False where it fails: then there is nobody behind it."""
        try:
            self.sink(event)
        except Exception:
            return False
        return True


class Row:
    """A ticket while it is served, with the session that reads its tokens (and has read how the prompt begins, say)."""

    def __init__(self, ticket: Ticket, session: Session[Any], clock: Clock) -> None:
        self.ticket, self.session, self.writer = ticket, session, ticket.writer
        self.ended = False
        self._unread: Sequence[int] = ticket.job.prompt
        self._cached, self._clock = 0, clock
        self._began, self._first, self._last = clock(), 0.0, 0.0

    def shared(self, other: Row) -> int:
        """How many tokens of the prompt can be taken from the other's; the last one is read for its logits."""
        one, two = self.ticket.job, other.ticket.job
        if one.adapter != two.adapter:
            return 0
        pairs = zip(one.prompt[:-1], two.prompt, strict=False)
        return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))

    def fill(self, prefixes: PrefixCache) -> None:
        """Take what is kept of the prompt, or was read by the session, as read."""
        prompt = self.ticket.job.prompt
        before = len(prompt) - len(self._unread)
        count = prefixes.fill(self.session, prompt)
        self._cached += count - before
        self._unread = prompt[count:]

    @property
    def reading(self) -> bool:
        """Whether the prompt is not read to its end."""
        return len(self._unread) > 0

    def read(self, most: int) -> Turn[Any]:
        """The next part of the prompt; its last token gives logits."""
        part = self._unread[:most]
        return Turn(self.session, part, int(len(part) == len(self._unread)))

    def write(self) -> Turn[Any]:
        """The token chosen last."""
        return Turn(self.session, (self.writer.tokens[-1],))

    def take(self, turn: Turn[Any], logits: Logits) -> None:
        """What the session has read, with logits f32[rows, V]: choose and tell. An error ends this row alone."""
        if self.reading:
            self._unread = self._unread[len(turn.ids) :]
        if not self.reading:
            self._push(logits[0])

    def _push(self, logits: Logits) -> None:
        writer = self.writer
        try:
            text = writer.push(logits, room=self.session.position < self.session.context)
            self._last = self._clock()
            self._first = self._first or self._last
            if writer.finish_reason is not None:
                text += writer.tail()
        except Exception as error:
            self.fail(error)
            return
        self.ended = not self.ticket.tell(Piece(text, writer.choices[-1]))
        if writer.finish_reason is not None:
            self.finish()

    def cancel(self) -> None:
        """End it here."""
        self.writer.cancel()
        self.finish()

    def finish(self) -> None:
        """Tell the end, once."""
        reason = self.writer.finish_reason
        assert reason is not None
        self._end(Finished(reason, self.usage()))

    def fail(self, error: Exception) -> None:
        """Tell an error, once."""
        self._end(Failed(error))

    def usage(self) -> Usage:
        """What it took so far."""
        read_until = self._first or self._clock()
        return Usage(
            prompt_tokens=len(self.ticket.job.prompt),
            cached_tokens=self._cached,
            generated_tokens=len(self.writer.tokens),
            queue_s=self._began - self.ticket.submitted,
            prefill_s=read_until - self._began,
            decode_s=max(self._last - read_until, 0.0),
        )

    def _end(self, event: Event) -> None:
        if not self.ended:
            self.ended = True
            self.ticket.tell(event)
