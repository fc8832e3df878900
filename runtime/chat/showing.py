"""What a chat prints: text as it comes for people, a JSON object a line for programs."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from hearth.runtime.commands.terminal import duration, emit, emit_json, rate
from hearth.schemas.errors import HearthError

if TYPE_CHECKING:
    from hearth.runtime.contexts.reply import Reply


class Shown(Protocol):
    """Where answers and what commands say go."""

    def piece(self, text: str) -> None:
        """A part of an answer."""

    def answer(self, reply: Reply) -> None:
        """The end of one."""

    def note(self, command: str, said: str, **facts: Any) -> None:
        """What a command has done: words for people, `facts` for programs."""

    def error(self, error: HearthError) -> None:
        """What could not be done."""


@dataclass(frozen=True)
class TextShown:
    """For people: answers on standard output, everything else on standard error where `apart`."""

    apart: bool
    stats: bool = False

    def piece(self, text: str) -> None:
        emit(text)

    def answer(self, reply: Reply) -> None:
        emit("\n")
        if reply.finish_reason == "cancelled":
            self._say("[stopped; /resume goes on]")
        elif reply.finish_reason == "length":
            self._say("[ended by its limit of tokens]")
        if self.stats:
            self._say(stats_text(reply))

    def note(self, command: str, said: str, **facts: Any) -> None:
        self._say(said)

    def error(self, error: HearthError) -> None:
        print(f"hearth: {error}", file=sys.stderr, flush=True)

    def _say(self, text: str) -> None:
        if self.apart:
            print(text, file=sys.stderr, flush=True)
        else:
            emit(f"{text}\n")


@dataclass(frozen=True)
class JsonShown:
    """For programs: an object a line, {"answer": ...}, {"command": ...} or {"error": ...}."""

    def piece(self, text: str) -> None:
        """Answers come whole."""

    def answer(self, reply: Reply) -> None:
        stats = reply.stats
        emit_json(
            {
                "answer": reply.text,
                "finish_reason": reply.finish_reason,
                "prompt_tokens": stats.prompt_tokens + reply.cached_tokens,
                "cached_tokens": reply.cached_tokens,
                "generated_tokens": stats.generated_tokens,
                "ttft_s": stats.ttft_s,
                "prefill_tokens_per_s": stats.prefill_rate,
                "decode_tokens_per_s": stats.decode_rate,
            }
        )

    def note(self, command: str, said: str, **facts: Any) -> None:
        emit_json({"command": command, **(facts or {"text": said})})

    def error(self, error: HearthError) -> None:
        emit_json({"error": {"code": error.code, "message": str(error)}})


def stats_text(reply: Reply) -> str:
    """One line of what an answer took."""
    stats = reply.stats
    return (
        f"read {stats.prompt_tokens} tokens ({reply.cached_tokens} more were known), {rate(stats.prefill_rate)}"
        f" | first after {duration(stats.ttft_s)} | wrote {stats.generated_tokens} tokens, {rate(stats.decode_rate)}"
    )
