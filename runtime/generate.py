"""Generate text: prefill the prompt, then choose and decode tokens until a stop, the limit or a full context."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from hearth.runtime.detokenizer import Detokenizer
from hearth.runtime.sampling import GREEDY, Sampling, choose, processors, sampler
from hearth.runtime.session import Logits
from hearth.runtime.stop_strings import StopStrings
from hearth.schemas.errors import UsageError

Clock = Callable[[], float]
FinishReason = Literal["stop", "length", "cancelled"]


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


class Cancelled(Exception):
    """Leaves a prefill between two chunks."""


@dataclass(frozen=True)
class Request:
    """What decides a generation, but for the prompt. `max_tokens` None: until the context is full."""

    max_tokens: int | None = None
    stop_ids: frozenset[int] = frozenset()
    stop: tuple[str, ...] = ()
    sampling: Sampling = GREEDY

    def __post_init__(self) -> None:
        if self.max_tokens is not None and self.max_tokens < 1:
            raise UsageError(
                "arguments.max_tokens", f"max_tokens is {self.max_tokens}", expected="at least 1"
            )


@dataclass(frozen=True)
class Stats:
    """What a generation took so far, without the time its consumer took between pieces."""

    prompt_tokens: int
    generated_tokens: int
    encode_s: float  # from text to ids
    prefill_s: float
    first_choice_s: float  # from logits to the first token
    decode_s: float  # all tokens but the first

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


class Generation(Iterator[str]):
    """An iterator of text pieces. What happened so far is in `tokens`, `text`, `finish_reason`, `stats`.

    `tokens` are the ids chosen, the stop token that ended the text among them; `text` is without it
    and without the stop string. `finish_reason` is None while it runs. A generation may be left or
    cancelled at any time: the session then holds the prompt (nothing of it where it was not read to
    its end) and the tokens decoded so far, and goes on from there.
    """

    def __init__(
        self,
        session: Speaker,
        prompt: Sequence[int],
        request: Request,
        decode: Callable[[Sequence[int]], str],
        *,
        clock: Clock = time.perf_counter,
        encode_s: float = 0.0,
    ) -> None:
        self._session, self.request, self._clock = session, request, clock
        self._prompt = list(prompt)
        self._detokenizer = Detokenizer(decode, (*session.tokens, *self._prompt))
        self._stops = StopStrings(request.stop)
        self._chain, self._sample = processors(request.sampling), sampler(request.sampling)
        self._encode_s, self._prefill_s = encode_s, 0.0
        self._first_choice_s, self._decode_s = 0.0, 0.0
        self._cancelled = self._stopped = False
        self._texts: list[str] = []
        self._pieces = self._run()
        self.tokens: list[int] = []
        self.finish_reason: FinishReason | None = None

    def __next__(self) -> str:
        try:
            piece = next(self._pieces)
        except KeyboardInterrupt:
            self.finish_reason = "cancelled"
            raise
        self._texts.append(piece)
        return piece

    def cancel(self) -> None:
        """End after the token or the chunk of the prompt being computed; any thread may call it."""
        self._cancelled = True

    @property
    def text(self) -> str:
        """The pieces given so far."""
        return "".join(self._texts)

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
            piece = self._next()
        tail = self._tail()
        if tail:
            yield tail

    def _first(self) -> str:
        began = self._clock()
        logits = self._session.prefill(self._prompt, between=self._check)
        read = self._clock()
        piece = self._accept(logits)
        self._prefill_s, self._first_choice_s = read - began, self._clock() - read
        return piece

    def _next(self) -> str:
        began = self._clock()
        piece = self._accept(self._session.decode(self.tokens[-1]))
        self._decode_s += self._clock() - began
        return piece

    def _accept(self, logits: Logits) -> str:
        """Choose a token; the text it completes."""
        token = choose(self.tokens, logits, self._chain, self._sample)
        self.tokens.append(token)
        if token in self.request.stop_ids:
            self.finish_reason = "stop"
            return ""
        piece, self._stopped = self._stops.push(self._detokenizer.push(token))
        if self._stopped:
            self.finish_reason = "stop"
        elif self._is_full():
            self.finish_reason = "length"
        return piece

    def _is_full(self) -> bool:
        """The limit is reached, or there is no room to decode the last token."""
        full = self._session.position >= self._session.context
        return full or len(self.tokens) == self.request.max_tokens

    def _check(self) -> None:
        if self._ended():
            raise Cancelled

    def _ended(self) -> bool:
        if self._cancelled and self.finish_reason is None:
            self.finish_reason = "cancelled"
        return self.finish_reason is not None

    def _tail(self) -> str:
        """What was held back, for a stop string that did not come or bytes that made no character."""
        if self._stopped or self.finish_reason == "cancelled":
            return ""
        piece, stopped = self._stops.push(self._detokenizer.flush())
        return piece if stopped else piece + self._stops.flush()
