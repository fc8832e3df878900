"""One answer as it grows out of a job's pieces: text, tool calls, log probabilities."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from hearth.runtime.generation.writing import Decode
from hearth.runtime.sampling import Choice
from hearth.runtime.serving.jobs import Finished, Piece, Read, Usage
from hearth.runtime.text.detokenizer import Detokenizer
from hearth.runtime.tools import CallReader, Part, ToolCall, whole_calls

Spell = Callable[[int], bytes]  # the bytes of a token
LEAST_LOGPROB = -9999.0  # what OpenAI gives for minus infinity, which JSON cannot hold


@dataclass(frozen=True)
class Token:
    """A token, its log probability (the first of a prompt has none) and those of the best; `start` is its place in
    the text."""

    token: int
    logprob: float | None
    top: tuple[tuple[int, float], ...]
    start: int


@dataclass(frozen=True)
class Delta:
    """What came with a piece."""

    text: str = ""
    calls: tuple[Part, ...] = ()
    begun: int = 0  # calls before these
    tokens: tuple[Token, ...] = ()
    read: tuple[Token, ...] = ()  # of the prompt

    @property
    def empty(self) -> bool:
        """Whether there is nothing to tell."""
        return not (self.text or self.calls or self.tokens or self.read)


class Echo:
    """A prompt that comes before its answer: its text, and the places of its tokens in it."""

    def __init__(self, text: str, decode: Decode) -> None:
        self.text = text
        self._detokenizer, self._length = Detokenizer(decode), 0

    def push(self, tokens: Sequence[Choice]) -> tuple[Token, ...]:
        """The next tokens."""
        return tuple(self._token(each) for each in tokens)

    def _token(self, choice: Choice) -> Token:
        start = min(self._length, len(self.text))
        self._length += len(self._detokenizer.push(choice.token))
        return Token(choice.token, choice.logprob, choice.top, start)


class Saying:
    """One answer: `push` what comes, then `end`. Without a parser text is never a call.

    Where log probabilities are wanted, those of the tokens `unsaid` are left out.
    """

    def __init__(
        self,
        logprobs: bool,
        unsaid: frozenset[int] = frozenset(),
        parser: CallReader | None = None,
        echo: Echo | None = None,
    ) -> None:
        self._unsaid, self._logprobs, self._parser = unsaid, logprobs, parser
        self._echo = echo
        self._length, self._begun = len(self.prompt), 0
        self.deltas: list[Delta] = []
        self.finished: Finished | None = None

    @property
    def prompt(self) -> str:
        """The prompt's text, where it is to come before the answer's."""
        return "" if self._echo is None else self._echo.text

    def push(self, piece: Read | Piece) -> Delta:
        """What a piece adds, or a part of the prompt that was read."""
        if isinstance(piece, Read):
            return self._keep(
                Delta(read=() if self._echo is None else self._echo.push(piece.tokens))
            )
        tokens = self._tokens(piece)
        self._length += len(piece.text)
        text, calls = (piece.text, ()) if self._parser is None else self._parser.push(piece.text)
        return self._keep(self._delta(text, calls, tokens))

    def end(self, finished: Finished) -> Delta:
        """What was held back."""
        self.finished = finished
        text, calls = ("", ()) if self._parser is None else self._parser.flush()
        return self._keep(self._delta(text, calls))

    @property
    def text(self) -> str:
        """All of the text."""
        return "".join(delta.text for delta in self.deltas)

    @property
    def calls(self) -> tuple[ToolCall, ...]:
        """All calls."""
        return whole_calls([part for delta in self.deltas for part in delta.calls])

    @property
    def tokens(self) -> tuple[Token, ...]:
        """All tokens, where log probabilities are asked for."""
        return tuple(token for delta in self.deltas for token in delta.tokens)

    @property
    def read(self) -> tuple[Token, ...]:
        """The prompt's tokens, where their log probabilities are asked for."""
        return tuple(token for delta in self.deltas for token in delta.read)

    @property
    def reason(self) -> str:
        """Why it ended, in OpenAI's words."""
        assert self.finished is not None
        if self.calls and self.finished.reason == "stop":
            return "tool_calls"
        return self.finished.reason

    def _delta(self, text: str, calls: tuple[Part, ...], tokens: tuple[Token, ...] = ()) -> Delta:
        begun = self._begun
        self._begun += sum(isinstance(part, ToolCall) for part in calls)
        return Delta(text, calls, begun, tokens)

    def _keep(self, delta: Delta) -> Delta:
        self.deltas.append(delta)
        return delta

    def _tokens(self, piece: Piece) -> tuple[Token, ...]:
        choice = piece.choice
        if not self._logprobs or choice.logprob is None or choice.token in self._unsaid:
            return ()
        return (Token(choice.token, choice.logprob, choice.top, self._length),)


def usage_body(usages: Sequence[Usage], per_prompt: int) -> dict[str, Any]:
    """OpenAI's usage: of `per_prompt` answers to the same prompt, the prompt counts once."""
    prompts = usages[::per_prompt]
    prompt = sum(usage.prompt_tokens for usage in prompts)
    generated = sum(usage.generated_tokens for usage in usages)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": generated,
        "total_tokens": prompt + generated,
        "prompt_tokens_details": {"cached_tokens": sum(usage.cached_tokens for usage in prompts)},
        "completion_tokens_details": {
            "accepted_prediction_tokens": sum(usage.accepted_tokens for usage in usages),
            "rejected_prediction_tokens": sum(
                usage.drafted_tokens - usage.accepted_tokens for usage in usages
            ),
        },
    }


def response_usage(usage: Usage) -> dict[str, Any]:
    """The usage of a response, in its own words."""
    return {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {"cached_tokens": usage.cached_tokens},
        "output_tokens": usage.generated_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": usage.prompt_tokens + usage.generated_tokens,
    }


def _finite(logprob: float | None) -> float | None:
    """As JSON can hold it."""
    return None if logprob is None else max(logprob, LEAST_LOGPROB)


def chat_logprobs(tokens: Sequence[Token], spell: Spell) -> dict[str, Any]:
    """The form of chat completions."""

    def named(token: int, logprob: float | None) -> dict[str, Any]:
        data = spell(token)
        text = data.decode(errors="replace")
        return {"token": text, "logprob": _finite(logprob), "bytes": list(data)}

    content = [
        {**named(each.token, each.logprob), "top_logprobs": [named(*top) for top in each.top]}
        for each in tokens
    ]
    return {"content": content, "refusal": None}


def completion_logprobs(tokens: Sequence[Token], spell: Spell) -> dict[str, Any]:
    """The older form, of completions: the best tokens, and the one that is there where it is none of them."""

    def text(token: int) -> str:
        return spell(token).decode(errors="replace")

    def top(each: Token) -> dict[str, Any] | None:
        if each.logprob is None:
            return None
        found: dict[str, Any] = {}
        for token, logprob in (*each.top, (each.token, each.logprob)):
            found.setdefault(text(token), _finite(logprob))  # of equal texts the better one
        return found

    return {
        "tokens": [text(each.token) for each in tokens],
        "token_logprobs": [_finite(each.logprob) for each in tokens],
        "top_logprobs": [top(each) for each in tokens],
        "text_offset": [each.start for each in tokens],
    }
