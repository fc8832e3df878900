"""Generate text: prefill the prompt, then choose and decode tokens until a stop, the limit or a full context."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from hearth.runtime.generation.sliding import rewound, slid, slide
from hearth.runtime.generation.writing import Decode, Full, Request, Writer, Written
from hearth.runtime.sampling import Constraint
from hearth.runtime.session import Logits
from hearth.runtime.speculative.drafted import Acceptance

Clock = Callable[[], float]


class Speaker(Protocol):
    """What generation needs of a session."""

    @property
    def position(self) -> int: ...
    @property
    def context(self) -> int: ...
    @property
    def tokens(self) -> tuple[int, ...]: ...
    def prefill(
        self, ids: Sequence[int], *, between: Callable[[], None] | None = None
    ) -> Logits: ...
    def decode(self, token: int) -> Logits: ...
    def rewind(self, position: int) -> None: ...
    def shared(self, ids: Sequence[int]) -> int: ...


class Cancelled(Exception):
    """Leaves a prefill between two chunks."""


@dataclass(frozen=True)
class Stats:
    """What a generation took so far, without the time its consumer took between pieces."""

    prompt_tokens: int
    generated_tokens: int
    encode_s: float  # from text to ids
    prefill_s: float
    first_choice_s: float  # from logits to the first token
    decode_s: float  # all tokens but the first
    drafted_tokens: int = 0  # guessed, and verified in a run of several
    accepted_tokens: int = 0  # of them, those that were right

    @property
    def ttft_s(self) -> float:
        """Time to the first token."""
        return self.encode_s + self.prefill_s + self.first_choice_s

    @property
    def prefill_rate(self) -> float | None:
        """Prompt tokens per second."""
        return self.prompt_tokens / self.prefill_s if self.prefill_s else None

    @property
    def decode_rate(self) -> float | None:
        """Tokens per second after the first."""
        return (self.generated_tokens - 1) / self.decode_s if self.decode_s else None


class Generation(Written, Iterator[str]):
    """An iterator of text pieces. What happened so far is in `tokens`, `text`, `finish_reason`, `stats`.

    `tokens` are the ids chosen, the stop token that ended the text among them, `choices` their
    probabilities where asked for; `text` is without it and without the stop string. `finish_reason`
    is None while it runs. A generation may be left or cancelled at any time: the session then holds
    the prompt (nothing of it where it was not read to its end) and the tokens decoded so far, and
    goes on from there. Where the context slides (sliding.py) it holds what was kept. With a `writer`,
    one restored, the prompt ends with that writer's last token.
    """

    def __init__(
        self,
        session: Speaker,
        prompt: Sequence[int],
        request: Request,
        decode: Decode,
        *,
        constraint: Constraint | None = None,
        acceptance: Acceptance | None = None,
        clock: Clock = time.perf_counter,
        encode_s: float = 0.0,
        writer: Writer | None = None,
    ) -> None:
        self._session, self.request, self._clock = session, request, clock
        self._prompt = list(prompt)
        before = (*session.tokens, *self._prompt)
        self.writer = writer or Writer(request, before, decode, constraint=constraint)
        self._encode_s, self._prefill_s = encode_s, 0.0
        self._first_choice_s, self._decode_s = 0.0, 0.0
        self._acceptance = acceptance or Acceptance()
        self._cancelled = False
        self._pieces = self._run()

    def __next__(self) -> str:
        try:
            return next(self._pieces)
        except KeyboardInterrupt:
            self.writer.cancel()
            raise

    def cancel(self) -> None:
        """End after the token or the chunk of the prompt being computed; any thread may call it."""
        self._cancelled = True

    @property
    def stats(self) -> Stats:
        """Counts and times so far."""
        return Stats(
            prompt_tokens=len(self._prompt),
            generated_tokens=len(self.tokens),
            encode_s=self._encode_s,
            prefill_s=self._prefill_s,
            first_choice_s=self._first_choice_s,
            decode_s=self._decode_s,
            drafted_tokens=self._acceptance.drafted,
            accepted_tokens=self._acceptance.accepted,
        )

    def _run(self) -> Iterator[str]:
        try:
            piece = self._first()
        except Cancelled:
            return
        while True:
            if piece:
                yield piece
            if self._ended():
                break
            try:
                piece = self._next()
            except Cancelled:
                return

    def _first(self) -> str:
        began = self._clock()
        logits = self._session.prefill(self._fitted(), between=self._check)
        read = self._clock()
        piece = self._push(logits)
        self._prefill_s, self._first_choice_s = read - began, self._clock() - read
        return piece

    def _next(self) -> str:
        began = self._clock()
        if self._session.position == self._session.context:
            slide(self._session, self._check)
        piece = self._push(self._session.decode(self.tokens[-1]))
        self._decode_s += self._clock() - began
        return piece

    def _fitted(self) -> list[int]:
        """The prompt, or what of all the tokens is read where they are to slide."""
        session, full = self._session, self.request.full
        if full is Full.SLIDE and session.position + len(self._prompt) > session.context:
            return rewound(session, slid((*session.tokens, *self._prompt), session.context))
        return self._prompt

    def _push(self, logits: Logits) -> str:
        piece = self.writer.push(logits, room=self._session.position < self._session.context)
        return piece if self.finish_reason is None else piece + self.writer.tail()

    def _check(self) -> None:
        if self._ended():
            raise Cancelled

    def _ended(self) -> bool:
        if self._cancelled:
            self.writer.cancel()
        return self.finish_reason is not None
