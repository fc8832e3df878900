"""The JSON objects that Ollama's endpoints answer with: one a line in a stream, or one for the whole answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

Json = dict[str, Any]
NANOSECONDS = 1_000_000_000


@dataclass(frozen=True)
class Timing:
    """Where the time of a request went, in seconds; it began with the request and ended with the last token."""

    total_s: float
    load_s: float
    prompt_tokens: int
    prompt_s: float
    tokens: int
    tokens_s: float

    def form(self) -> Json:
        """Durations in nanoseconds, of which eval_count / eval_duration is the speed."""
        return {
            "total_duration": nanoseconds(self.total_s),
            "load_duration": nanoseconds(self.load_s),
            "prompt_eval_count": self.prompt_tokens,
            "prompt_eval_duration": nanoseconds(self.prompt_s),
            "eval_count": self.tokens,
            "eval_duration": max(1, nanoseconds(self.tokens_s)),  # clients divide by it
        }


@dataclass(frozen=True)
class Said:
    """A part of an answer, or all of it."""

    text: str = ""
    tool_calls: tuple[Mapping[str, Any], ...] = ()
    logprobs: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True)
class End:
    """How an answer ended; `context` are the ids of prompt and answer, which /api/generate takes back."""

    reason: str
    timing: Timing | None = None
    context: tuple[int, ...] = ()


@dataclass(frozen=True)
class Form:
    """The form of one endpoint's objects."""

    model: str
    chat: bool

    def piece(self, said: Said) -> Json:
        """A line of a stream."""
        return {**self._head(said), "done": False}

    def end(self, said: Said, end: End) -> Json:
        """The last line of a stream, or the whole answer."""
        form = {**self._head(said), "done": True, "done_reason": end.reason}
        if end.timing is not None:
            form |= end.timing.form()
        if end.context and not self.chat:
            form["context"] = list(end.context)
        return form

    def _head(self, said: Said) -> Json:
        head: Json = {"model": self.model, "created_at": moment(datetime.now(UTC))}
        if self.chat:
            message: Json = {"role": "assistant", "content": said.text}
            if said.tool_calls:
                message["tool_calls"] = list(said.tool_calls)
            head["message"] = message
        else:
            head["response"] = said.text
        if said.logprobs:
            head["logprobs"] = list(said.logprobs)
        return head


def tool_call(index: int, name: str, arguments: Mapping[str, Any]) -> Json:
    """Arguments are an object here, where OpenAI's form has JSON in a string."""
    return {"function": {"index": index, "name": name, "arguments": dict(arguments)}}


def logprob(token: bytes, value: float, top: Sequence[tuple[bytes, float]]) -> Json:
    """The natural log probability of a chosen token, given by its bytes, beside those of the likeliest ones."""
    others = [_token(other, probability) for other, probability in top]
    return _token(token, value) | ({"top_logprobs": others} if others else {})


def error(text: str) -> Json:
    """The body of every failure, also the last line of a stream that fails."""
    return {"error": text}


def nanoseconds(seconds: float) -> int:
    """A whole number of them."""
    return round(seconds * NANOSECONDS)


def moment(when: datetime) -> str:
    """RFC 3339, UTC."""
    return when.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _token(spelt: bytes, value: float) -> Json:
    return {"token": spelt.decode(errors="replace"), "logprob": value, "bytes": list(spelt)}
