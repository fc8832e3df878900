"""An answer as it is written, and as the message that it becomes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Any

from hearth.runtime.contexts.saved import Text
from hearth.runtime.generation.generate import Generation, Stats
from hearth.runtime.generation.writing import Decode, Written
from hearth.runtime.text.messages import Message, Messages
from hearth.runtime.text.tokenizer import Tokenizer
from hearth.runtime.tools import (
    Tool,
    ToolCall,
    ToolFormat,
    ToolParser,
    read_tools,
    tool_format,
)

if TYPE_CHECKING:
    from hearth.runtime.model import Model

Tools = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Form:
    """How answers are read: with a format of calls where the model has one and knows of tools."""

    tokenizer: Tokenizer
    format: ToolFormat | None = None
    tools: tuple[Tool, ...] = ()

    @property
    def decode(self) -> Decode:
        """Ids to text, with the marks of calls in it."""
        decode = self.tokenizer.decode
        return decode if self.format is None else self.format.decode(self.tokenizer)

    def message(self, text: str) -> Message:
        """The assistant's message that an answer is, its calls as OpenAI's API gives them."""
        if self.format is None:
            return {"role": "assistant", "content": text}
        ids = (f"call{number:05}" for number in count(1))
        parser = ToolParser(self.format, self.tools, lambda: next(ids))
        parts = [parser.push(text), parser.flush()]
        written = "".join(each for each, _ in parts)
        calls = [_call(call) for _, found in parts for call in found]
        message: dict[str, Any] = {"role": "assistant", "content": written}
        return message | ({"tool_calls": calls} if calls else {})


class Reply(Written, Iterator[str]):
    """The answer as it is written: an iterator of text pieces. `Generation` says what the rest is.

    `cached_tokens` of its tokens did not have to be read. It may be left or cancelled at any time; the
    conversation then goes on with what was written, or `resume` with the answer itself.
    """

    def __init__(
        self,
        sent: Messages,
        form: Form,
        generation: Generation,
        cached_tokens: int,
        read: Callable[[], None],
    ) -> None:
        self.sent, self.form, self.cached_tokens = tuple(sent), form, cached_tokens
        self.writer = generation.writer
        self._generation, self._read = generation, read
        self._begun = False

    def __next__(self) -> str:
        try:
            return next(self._generation)
        finally:
            if not self._begun and self.stats.prefill_s:
                self._begun = True
                self._read()

    def cancel(self) -> None:
        """End after the token or the chunk of the prompt being computed; any thread may call it."""
        self._generation.cancel()

    @property
    def stats(self) -> Stats:
        """Counts and times so far."""
        return self._generation.stats

    @property
    def messages(self) -> tuple[Message, ...]:
        """What was sent and the answer so far; nothing where no token of it was written."""
        return (*self.sent, self.form.message(self.text)) if self.tokens else ()

    @property
    def unfinished(self) -> Text | None:
        """What there is to go on with."""
        if not self.tokens or self.finish_reason not in (None, "cancelled"):
            return None
        constrained = self.writer.constraint is not None
        return Text(self.writer.request, self.writer.chooser.state(), constrained)


@dataclass(frozen=True)
class Paused:
    """An answer that was restored unfinished."""

    sent: tuple[Message, ...]
    form: Form
    text: Text
    written: str

    @property
    def messages(self) -> tuple[Message, ...]:
        return (*self.sent, self.form.message(self.written))

    @property
    def unfinished(self) -> Text:
        return self.text


def form_of(model: Model, tools: Tools | None) -> Form:
    """How a model that knows of these tools answers. InputError `input.tools` for what is no tool."""
    found = tool_format(model) if tools else None
    if not tools or found is None:
        return Form(model.tokenizer)
    return Form(model.tokenizer, found, read_tools(tools))


def _call(call: ToolCall) -> dict[str, Any]:
    function = {"name": call.name, "arguments": call.arguments}
    return {"id": call.id, "type": "function", "function": function}
