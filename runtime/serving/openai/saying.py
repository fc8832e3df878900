"""One answer as it grows out of a job's pieces: text, tool calls, log probabilities."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hearth.runtime.serving.jobs import Finished, Piece, Usage

if TYPE_CHECKING:
    from hearth.runtime.tools import ToolCall, ToolParser

Spell = Callable[[int], bytes]  # the bytes of a token
LEAST_LOGPROB = -9999.0  # what OpenAI gives for minus infinity, which JSON cannot hold


@dataclass(frozen=True)
class Token:
    """A token that was chosen, its log probability and those of the best; `start` is its place in the text."""

    token: int
    logprob: float
    top: tuple[tuple[int, float], ...]
    start: int


@dataclass(frozen=True)
class Delta:
    """What came with a piece."""

    text: str = ""
    calls: tuple[ToolCall, ...] = ()
    tokens: tuple[Token, ...] = ()

    @property
    def empty(self) -> bool:
        """Whether there is nothing to tell."""
        return not (self.text or self.calls or self.tokens)


class Saying:
    """One answer: `push` its pieces, then `end`. Without a parser text is never a call."""

    def __init__(
        self, stop_ids: frozenset[int], logprobs: bool, parser: ToolParser | None = None
    ) -> None:
        self._stop_ids, self._logprobs, self._parser = stop_ids, logprobs, parser
        self._length = 0
        self.deltas: list[Delta] = []
        self.finished: Finished | None = None

    def push(self, piece: Piece) -> Delta:
        """What a piece adds."""
        tokens = self._tokens(piece)
        self._length += len(piece.text)
        text, calls = (piece.text, ()) if self._parser is None else self._parser.push(piece.text)
        return self._keep(Delta(text, calls, tokens))

    def end(self, finished: Finished) -> Delta:
        """What was held back."""
        self.finished = finished
        text, calls = ("", ()) if self._parser is None else self._parser.flush()
        return self._keep(Delta(text, calls))

    @property
    def text(self) -> str:
        """All of the text."""
        return "".join(delta.text for delta in self.deltas)

    @property
    def calls(self) -> tuple[ToolCall, ...]:
        """All calls."""
        return tuple(call for delta in self.deltas for call in delta.calls)

    @property
    def tokens(self) -> tuple[Token, ...]:
        """All tokens, where log probabilities are asked for."""
        return tuple(token for delta in self.deltas for token in delta.tokens)

    @property
    def reason(self) -> str:
        """Why it ended, in OpenAI's words."""
        assert self.finished is not None
        if self.calls and self.finished.reason == "stop":
            return "tool_calls"
        return self.finished.reason

    def _keep(self, delta: Delta) -> Delta:
        self.deltas.append(delta)
        return delta

    def _tokens(self, piece: Piece) -> tuple[Token, ...]:
        choice = piece.choice
        if not self._logprobs or choice.logprob is None or choice.token in self._stop_ids:
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


def chat_logprobs(tokens: Sequence[Token], spell: Spell) -> dict[str, Any]:
    """The form of chat completions."""

    def named(token: int, logprob: float) -> dict[str, Any]:
        data = spell(token)
        text = data.decode(errors="replace")
        return {"token": text, "logprob": max(logprob, LEAST_LOGPROB), "bytes": list(data)}

    content = [
        {**named(each.token, each.logprob), "top_logprobs": [named(*top) for top in each.top]}
        for each in tokens
    ]
    return {"content": content, "refusal": None}


def completion_logprobs(tokens: Sequence[Token], spell: Spell) -> dict[str, Any]:
    """The older form, of completions."""

    def text(token: int) -> str:
        return spell(token).decode(errors="replace")

    return {
        "tokens": [text(each.token) for each in tokens],
        "token_logprobs": [max(each.logprob, LEAST_LOGPROB) for each in tokens],
        "top_logprobs": [
            {text(token): max(logprob, LEAST_LOGPROB) for token, logprob in each.top}
            for each in tokens
        ],
        "text_offset": [each.start for each in tokens],
    }
