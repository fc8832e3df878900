"""The items of a response as they are written: messages and calls of functions, and the events that tell of them."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

from hearth.runtime.serving.openai.saying import Delta
from hearth.runtime.tools import Arguments, ToolCall

Body = dict[str, Any]  # of an event, with its type


class Output:
    """`add` each delta of an answer, then `end`: the events of it, and `items` as they are by then.

    Text after a call is a message of its own. An answer of nothing at all is a message without text.
    """

    def __init__(self) -> None:
        self.items: list[Body] = []

    def add(self, delta: Delta) -> Iterator[Body]:
        """Text, then calls."""
        if delta.text:
            yield from self._say(delta.text)
        for part in delta.calls:
            match part:
                case ToolCall():
                    yield from self._call(part)
                case Arguments(text):
                    yield self._argue(text)

    def end(self, status: str) -> Iterator[Body]:
        """Close the last item, which was cut short where the answer is "incomplete"."""
        if not self.items:
            yield from self._open_message()
        yield from self._close(status)

    @property
    def _last(self) -> Body:
        return self.items[-1]

    def _about(self, type: str, **rest: Any) -> Body:
        index = len(self.items) - 1
        return {"type": type, "item_id": self._last["id"], "output_index": index, **rest}

    def _begin(self, item: Body) -> Iterator[Body]:
        if self.items:
            yield from self._close("completed")
        self.items.append(item)
        yield {
            "type": "response.output_item.added",
            "output_index": len(self.items) - 1,
            "item": item,
        }

    def _close(self, status: str) -> Iterator[Body]:
        item = self._last
        item["status"] = status
        if item["type"] == "message":
            (part,) = item["content"]
            said = {"text": part["text"], "logprobs": []}
            yield self._about("response.output_text.done", content_index=0, **said)
            yield self._about("response.content_part.done", content_index=0, part=part)
        else:
            said = {"arguments": item["arguments"], "name": item["name"]}
            yield self._about("response.function_call_arguments.done", **said)
        index = len(self.items) - 1
        yield {"type": "response.output_item.done", "output_index": index, "item": item}

    def _open_message(self) -> Iterator[Body]:
        message = {"id": _id("msg"), "type": "message", "role": "assistant"}
        yield from self._begin({**message, "status": "in_progress", "content": []})
        part = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
        yield self._about("response.content_part.added", content_index=0, part=part)
        self._last["content"].append(part)

    def _say(self, text: str) -> Iterator[Body]:
        if not self.items or self._last["type"] != "message":
            yield from self._open_message()
        self._last["content"][0]["text"] += text
        delta = {"delta": text, "logprobs": []}
        yield self._about("response.output_text.delta", content_index=0, **delta)

    def _call(self, call: ToolCall) -> Iterator[Body]:
        item = {"id": _id("fc"), "type": "function_call", "status": "in_progress"}
        named = {"call_id": call.id, "name": call.name, "arguments": ""}
        yield from self._begin({**item, **named})
        if call.arguments:
            yield self._argue(call.arguments)

    def _argue(self, text: str) -> Body:
        self._last["arguments"] += text
        return self._about("response.function_call_arguments.delta", delta=text)


def _id(prefix: str) -> str:
    return f"{prefix}_{uuid.uuid4().hex}"
