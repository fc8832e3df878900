"""Deltas of an answer as items and events: each item is begun, grows and ends once."""

from __future__ import annotations

from typing import Any

from hearth.runtime.serving.openai.output import Output
from hearth.runtime.serving.openai.saying import Delta
from hearth.runtime.tools import Arguments, ToolCall

DELTAS = [
    Delta("Let "),
    Delta("me"),
    Delta(calls=(ToolCall("1", "f", ""), Arguments("{"))),
    Delta(),
    Delta(calls=(Arguments("}"), ToolCall("2", "g", '{"a": 1}'))),
    Delta("see"),
]


def told(deltas: list[Delta], status: str = "completed") -> tuple[Output, list[dict[str, Any]]]:
    output = Output()
    events = [dict(body) for delta in deltas for body in output.add(delta)]
    return output, events + [dict(body) for body in output.end(status)]


def test_items_in_their_order() -> None:
    output, _ = told(DELTAS)
    said = [item.get("arguments") or item["content"][0]["text"] for item in output.items]
    assert said == ["Let me", "{}", '{"a": 1}', "see"]
    assert [item.get("call_id") for item in output.items] == [None, "1", "2", None]
    assert len({item["id"] for item in output.items}) == 4


def test_the_events_of_an_item() -> None:
    output, events = told(DELTAS)
    for index, item in enumerate(output.items):
        mine = [event for event in events if event["output_index"] == index]
        assert mine[0]["type"] == "response.output_item.added"
        assert (mine[-1]["type"], mine[-1]["item"]) == ("response.output_item.done", item)
        assert {event["item_id"] for event in mine[1:-1]} == {item["id"]}
        written = "".join(event["delta"] for event in mine if event["type"].endswith(".delta"))
        assert written == (item.get("arguments") or item["content"][0]["text"])
    indices = [event["output_index"] for event in events]
    assert indices == sorted(indices)


def test_only_the_last_item_is_cut_short() -> None:
    output, _ = told(DELTAS, "incomplete")
    statuses = [item["status"] for item in output.items]
    assert statuses == ["completed", "completed", "completed", "incomplete"]


def test_an_answer_of_nothing_is_a_message() -> None:
    output, events = told([])
    assert [item["content"][0]["text"] for item in output.items] == [""]
    assert [event["type"].rpartition("response.")[2] for event in events] == [
        "output_item.added", "content_part.added", "output_text.done", "content_part.done", "output_item.done",
    ]  # fmt: skip
