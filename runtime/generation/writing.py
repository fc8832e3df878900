"""Writing a text, token by token, from logits: choose, read back as text, stop where the request says so.

What runs the model (one session in generate.py, many in serving/scheduler.py) hands the logits in.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Literal

from hearth.runtime.sampling import GREEDY, Choice, Chooser, ChooserState, Constraint, Sampling
from hearth.runtime.session import Logits
from hearth.runtime.text.detokenizer import Detokenizer
from hearth.runtime.text.stop_strings import StopStrings
from hearth.schemas.errors import HearthError, InputError, UsageError

FinishReason = Literal["stop", "length", "cancelled", "error"]
Decode = Callable[[Sequence[int]], str]


class Full(Enum):
    """What happens where the context is full and the text is not at its end."""

    STOP = "stop"  # it ends there, as with a limit
    SLIDE = "slide"  # old tokens are forgotten (docs/contexts.md)
    ERROR = "error"  # InputError input.context_full


@dataclass(frozen=True)
class Request:
    """What decides a text, but for the prompt. `max_tokens` None: as many as `full` allows.

    `logprobs` asks for the log probability of each token, and for those of so many of the best.
    """

    max_tokens: int | None = None
    stop_ids: frozenset[int] = frozenset()
    stop: tuple[str, ...] = ()
    sampling: Sampling = GREEDY
    logprobs: int | None = None
    full: Full = Full.STOP

    def __post_init__(self) -> None:
        if self.max_tokens is not None and self.max_tokens < 1:
            raise UsageError(
                "arguments.max_tokens", f"max_tokens is {self.max_tokens}", expected="at least 1"
            )
        if self.logprobs is not None and self.logprobs < 0:
            raise UsageError(
                "arguments.logprobs", f"logprobs is {self.logprobs}", expected="a count, 0 or more"
            )


@dataclass(frozen=True, eq=False)
class Task:
    """A text to be written after the tokens of `prompt`; `decode` turns ids into text."""

    prompt: Sequence[int]
    request: Request
    decode: Decode
    constraint: Constraint | None = None


class Written:
    """Whatever has a writer: what it has written."""

    writer: Writer

    @property
    def tokens(self) -> list[int]:
        """The ids chosen so far."""
        return self.writer.tokens

    @property
    def choices(self) -> list[Choice]:
        """The same with their log probabilities, where the request wants them."""
        return self.writer.choices

    @property
    def text(self) -> str:
        """The text so far."""
        return self.writer.text

    @property
    def finish_reason(self) -> FinishReason | None:
        """Why it ended; None while it runs."""
        return self.writer.finish_reason


class Writer:
    """One text being written after the tokens of `prompt`; `decode` turns ids into text.

    `tokens` and `choices` are what was chosen, a stop token that ended the text among them; `text` is
    without it and without the stop string. `finish_reason` is None until the end.
    """

    def __init__(
        self,
        request: Request,
        prompt: Sequence[int],
        decode: Decode,
        *,
        constraint: Constraint | None = None,
    ) -> None:
        self.request, self.constraint = request, constraint
        self.chooser = Chooser(
            request.sampling, prompt, constraint=constraint, logprobs=request.logprobs
        )
        self.tokens: list[int] = []
        self.choices: list[Choice] = []
        self.finish_reason: FinishReason | None = None
        self._detokenizer = Detokenizer(decode, prompt)
        self._stops = StopStrings(request.stop)
        self._at_stop_string = False
        self._texts: list[str] = []

    @classmethod
    def restored(
        cls,
        request: Request,
        state: ChooserState,
        decode: Decode,
        *,
        constraint: Constraint | None = None,
    ) -> Writer:
        """Goes on where a chooser's state was taken; its choices have no probabilities up to there.

        A fresh `constraint` is fed the answer's tokens.
        """
        writer = cls(request, state.tokens[: state.prompt], decode)
        for token in state.tokens[state.prompt :]:
            writer.choices.append(Choice(token))
            writer._give(writer._read(token))
        writer.constraint = constraint
        writer.chooser = Chooser.restored(state, constraint=constraint, logprobs=request.logprobs)
        return writer

    @property
    def text(self) -> str:
        """What `push` and `tail` have given."""
        return "".join(self._texts)

    def push(self, logits: Logits, room: bool) -> str:
        """Choose a token by f32[V]; the text it completes. `room`: the context can take that token, too.

        Raises InputError `input.logits` for logits that are not finite, `input.context_full` where
        the request says that a full context is an error; the reason is "error" then.
        """
        try:
            return self._give(self._accept(logits, room))
        except HearthError:
            self.finish_reason = "error"
            raise

    def tail(self) -> str:
        """At the end: what was held back, for a stop string that did not come or half a character."""
        if self._at_stop_string or self.finish_reason == "cancelled":
            return ""
        piece, stopped = self._stops.push(self._detokenizer.flush())
        return self._give(piece if stopped else piece + self._stops.flush())

    def cancel(self) -> None:
        """End it here, unless it has ended."""
        self.finish_reason = self.finish_reason or "cancelled"

    def _give(self, piece: str) -> str:
        if piece:
            self._texts.append(piece)
        return piece

    def _accept(self, logits: Logits, room: bool) -> str:
        choice = self.chooser.choose(logits)
        self.choices.append(choice)
        piece = self._read(choice.token)
        if self.finish_reason is None and not room:
            self._meet_the_end_of_the_context()
        return piece

    def _read(self, token: int) -> str:
        """The text that a token completes; whether it is the last one."""
        self.tokens.append(token)
        if token in self.request.stop_ids:
            self.finish_reason = "stop"
            return ""
        piece, self._at_stop_string = self._stops.push(self._detokenizer.push(token))
        if self._at_stop_string or (self.constraint is not None and self.constraint.done):
            self.finish_reason = "stop"
        elif len(self.tokens) == self.request.max_tokens:
            self.finish_reason = "length"
        return piece

    def _meet_the_end_of_the_context(self) -> None:
        if self.request.full is Full.STOP:
            self.finish_reason = "length"
        elif self.request.full is Full.ERROR:
            raise InputError(
                "input.context_full",
                f"the context is full after {len(self.tokens)} tokens of the answer",
                expected="room for the whole answer",
                remedy="shorten the prompt, set max_tokens, or let the context slide",
            )
