"""A row: one job while it is served, as the tokens to be read next and what becomes of the logits after them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any

from hearth.runtime.batch import Turn
from hearth.runtime.contexts.prefix_cache import PrefixCache
from hearth.runtime.generation.sliding import fitted, rewound, slid
from hearth.runtime.generation.writing import Writer
from hearth.runtime.serving.jobs import Event, Failed, Finished, Job, Piece, Sink, Usage
from hearth.runtime.serving.prompt_scores import PromptScores
from hearth.runtime.session import Ids, Logits, Session
from hearth.runtime.speculative.drafted import MOST, Acceptance, Pace, guessed
from hearth.runtime.speculative.drafter import Drafter

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
        """Give the sink an event; False where it fails: then there is nobody behind it.

        The last event lets the sink go: one that knows its ticket would keep both, and the tokens, in memory.
        """
        sink = self.sink
        if isinstance(event, Finished | Failed):
            self.sink = _unheard
        try:
            sink(event)
        except Exception:
            return False
        return True


def _unheard(event: Event) -> None:
    """The sink of a ticket that has ended."""


class Row:
    """A ticket while it is served, with the session that reads its tokens (and has read how the prompt begins, say)."""

    def __init__(
        self, ticket: Ticket, session: Session[Any], clock: Clock, drafter: Drafter | None = None
    ) -> None:
        self.ticket, self.session, self.writer = ticket, session, ticket.writer
        self.ended = False
        self.drafter = drafter
        job = ticket.job
        self._prompt = tuple(fitted(job.prompt, session.context, job.request.full))
        self._text = list(job.prompt)
        self._scores = None
        if job.prompt_logprobs is not None:
            self._scores = PromptScores(self._prompt, job.prompt_logprobs)
        self._pace, self._acceptance = Pace(MOST), Acceptance()
        self._unread: Sequence[int] = self._prompt
        self._cached, self._clock = 0, clock
        self._began, self._first, self._last = clock(), 0.0, 0.0

    def shared(self, other: Row) -> int:
        """How many tokens of the prompt can be taken from the other's; the last one is read for its logits."""
        one, two = self.ticket.job, other.ticket.job
        if one.adapter != two.adapter or self._scores is not None:
            return 0
        pairs = zip(self._prompt[:-1], other._prompt, strict=False)
        return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))

    def fill(self, prefixes: PrefixCache) -> None:
        """Take what is kept of the prompt, or was read by the session, as read; a prompt with scores is read whole."""
        if self._scores is not None:
            self.session.rewind(0)
            return
        prompt = self._prompt
        before = len(prompt) - len(self._unread)
        count = prefixes.fill(self.session, prompt)
        self._cached += count - before
        self._unread = prompt[count:]

    @property
    def reading(self) -> bool:
        """Whether the prompt is not read to its end, or what was kept of a context that slid."""
        return self.unread > 0

    @property
    def unread(self) -> int:
        """Tokens of it that are not read."""
        return len(self._unread)

    @property
    def full(self) -> bool:
        """Whether there is no room for the token chosen last."""
        return self.session.position == self.session.context

    def slide(self) -> None:
        """Make room (sliding.py): what is kept and the token chosen last are read like a prompt."""
        kept = slid(self.session.tokens, self.session.context)
        self._unread = [*rewound(self.session, kept), self.writer.tokens[-1]]

    def read(self, most: int) -> Turn[Any]:
        """The next part of the prompt; its last token gives logits, where there are scores each does."""
        if self._scores is not None:
            part = self._unread[: min(most, self.session.executor.logit_rows)]
            return Turn(self.session, part, len(part))
        part = self._unread[:most]
        return Turn(self.session, part, int(len(part) == len(self._unread)))

    def write(self, guesses: int) -> Turn[Any]:
        """The token chosen last, and at most so many that may follow."""
        session, token = self.session, self.writer.tokens[-1]
        if self.drafter is None:
            return Turn(session, (token,))
        room = min(guesses, self._pace.count, session.context - session.position - 1)
        more = guessed(self.drafter, self._text, room, session.executor.vocab)
        return Turn(session, (token, *more), 1 + len(more))

    def take(self, turn: Turn[Any], logits: Logits) -> None:
        """What the session has read, with logits f32[rows, V]: choose and tell. An error ends this row alone."""
        if not self.reading:
            self._verify(turn.ids[1:], logits)
            return
        self._unread = self._unread[len(turn.ids) :]
        if self._scores is not None:
            self._score(self._scores, logits)
        if not self.reading:
            self._read_to_its_end(logits)

    def _score(self, scores: PromptScores, logits: Logits) -> None:
        try:
            read = scores.push(logits)
        except Exception as error:
            self.fail(error)
            return
        self.ended = not self.ticket.tell(read)

    def _read_to_its_end(self, logits: Logits) -> None:
        self._scores = None
        if self.ended:
            return
        if self.ticket.job.write:
            self._push(logits[-1], self.session.position)
        else:
            self._end(Finished("length", self.usage()))

    def _verify(self, guesses: Ids, logits: Logits) -> None:
        """Choose as long as the guesses are right, and forget the rest of them."""
        first = self.session.position - len(guesses)
        for right, row in enumerate(logits):
            self._push(row, first + right)
            if right == len(guesses) or self.ended or self._text[-1] != guesses[right]:
                break
        self.session.rewind(first + right)
        self._pace.learn(len(guesses), right)
        self._acceptance.drafted += len(guesses)
        self._acceptance.accepted += right

    def _push(self, logits: Logits, position: int) -> None:
        """Choose a token after so many."""
        writer = self.writer
        try:
            text = writer.push(logits, room=position < self.session.context)
            self._last = self._clock()
            self._first = self._first or self._last
            if writer.finish_reason is not None:
                text += writer.tail()
        except Exception as error:
            self.fail(error)
            return
        self._text.append(writer.tokens[-1])
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
            drafted_tokens=self._acceptance.drafted,
            accepted_tokens=self._acceptance.accepted,
        )

    def _end(self, event: Event) -> None:
        if not self.ended:
            self.ended = True
            self.ticket.tell(event)
