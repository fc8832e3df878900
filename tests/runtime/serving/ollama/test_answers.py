"""Answers over HTTP of a scheduler that says what a test wrote: tool calls, and failures at every moment."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient
from support.encoders import compile_encoder
from support.serve import chat_checkpoint
from support.served import FakeStats

from hearth.runtime.sampling import Choice
from hearth.runtime.serving.app import AppOptions, make_app
from hearth.runtime.serving.jobs import Event, Failed, Finished, Job, Piece, Usage
from hearth.runtime.serving.service import Service
from hearth.runtime.serving.settings import Settings
from hearth.runtime.serving.surfaces import SURFACES
from hearth.schemas.errors import InputError, ResourceError

USAGE = Usage(5, 0, 3, 0.0, 0.5, 0.25)
TOOL = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}
CALL = '<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call>'
BODY = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}


@dataclass
class Scripted:
    """Says its events to every job."""

    events: list[Event] = field(default_factory=list)
    jobs: list[Job] = field(default_factory=list)

    def submit(self, job: Job, sink: Callable[[Event], None]) -> Any:
        if not self.events:
            raise ResourceError("resource.queue_full", "64 requests wait", remedy="ask again later")
        self.jobs.append(job)
        for event in self.events:
            sink(event)
        return self

    def cancel(self) -> None:
        """It has ended."""

    def stats(self) -> Any:
        return FakeStats()

    def close(self, drain_s: float = 0.0) -> None:
        """Nothing runs."""


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("answers")
    return compile_encoder(chat_checkpoint(folder / "chat"), folder / "m.har")


@pytest.fixture
def script() -> Scripted:
    return Scripted()


@pytest.fixture
def client(archive: Path, script: Scripted) -> Iterator[TestClient]:
    service = Service({"m": archive}, Settings(), lambda model: script)
    with TestClient(
        make_app(service, SURFACES, AppOptions()), raise_server_exceptions=False
    ) as client:
        yield client


def said(*texts: str, reason: Any = "stop") -> list[Event]:
    pieces = (Piece(text, Choice(7 + n, None, ())) for n, text in enumerate(texts))
    return [*pieces, Finished(reason, USAGE)]


def lines(response: Any) -> list[Any]:
    assert response.headers["content-type"] == "application/x-ndjson"
    return [json.loads(line) for line in response.text.splitlines()]


def test_a_call_is_an_object_of_the_message(client: TestClient, script: Scripted) -> None:
    script.events = said("I add. ", CALL[:20], CALL[20:])
    found = client.post("/api/chat", json={**BODY, "tools": [TOOL], "stream": False}).json()
    assert found["message"] == {
        "role": "assistant",
        "content": "I add.",
        "tool_calls": [{"function": {"index": 0, "name": "add", "arguments": {"a": 1}}}],
    }
    assert found["done_reason"] == "stop"


def test_calls_come_whole_in_a_stream(client: TestClient, script: Scripted) -> None:
    script.events = said(CALL[:20], CALL[20:], "\n", CALL)
    found = lines(client.post("/api/chat", json={**BODY, "tools": [TOOL]}))
    calls = [call["function"] for line in found for call in line["message"].get("tool_calls", ())]
    assert [(call["index"], call["name"]) for call in calls] == [(0, "add"), (1, "add")]
    assert "".join(line["message"]["content"] for line in found) == ""
    assert [line["done"] for line in found][-2:] == [False, True]


def test_without_tools_a_call_is_text(client: TestClient, script: Scripted) -> None:
    script.events = said(CALL)
    found = client.post("/api/chat", json={**BODY, "stream": False}).json()
    assert found["message"]["content"] == CALL and "tool_calls" not in found["message"]


def test_a_failure_before_the_first_token_has_its_status(
    client: TestClient, script: Scripted
) -> None:
    script.events = [Failed(InputError("input.logits", "logits are not finite"))]
    response = client.post("/api/chat", json=BODY)
    assert (response.status_code, list(response.json())) == (400, ["error"])


def test_a_failure_within_a_stream_is_its_last_line(client: TestClient, script: Scripted) -> None:
    script.events = [
        Piece("Hel", Choice(7, None, ())),
        Failed(InputError("input.logits", "logits are not finite")),
    ]
    found = lines(client.post("/api/chat", json=BODY))
    assert found[0]["message"]["content"] == "Hel"
    assert list(found[-1]) == ["error"] and "not finite" in found[-1]["error"]
    whole = client.post("/api/chat", json={**BODY, "stream": False})
    assert (whole.status_code, list(whole.json())) == (400, ["error"])


def test_a_bug_within_a_stream_is_its_last_line(client: TestClient, script: Scripted) -> None:
    script.events = [Piece("Hel", Choice(7, None, ())), Failed(ZeroDivisionError("oh"))]
    found = lines(client.post("/api/chat", json=BODY))
    assert "internal error" in found[-1]["error"] and "oh" not in found[-1]["error"]
    assert client.post("/api/chat", json={**BODY, "stream": False}).status_code == 500


def test_a_server_that_closes_says_so(client: TestClient, script: Scripted) -> None:
    script.events = said("Hel", reason="cancelled")
    assert "shutting down" in lines(client.post("/api/chat", json=BODY))[-1]["error"]
    assert client.post("/api/chat", json={**BODY, "stream": False}).status_code == 503


def test_a_full_queue_is_429(client: TestClient) -> None:
    response = client.post("/api/chat", json=BODY)
    assert (response.status_code, response.headers["retry-after"]) == (429, "1")
    assert "64 requests wait" in response.json()["error"]


def test_any_content_type_is_json(client: TestClient, script: Scripted) -> None:
    """curl -d sends forms."""
    script.events = said("Hello")
    content = json.dumps({**BODY, "stream": False})
    response = client.post(
        "/api/chat", content=content, headers={"content-type": "application/x-www-form-urlencoded"}
    )
    assert response.json()["message"]["content"] == "Hello"


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff\xfe", b'{"model": NaN}'])
def test_what_is_no_object_is_400(client: TestClient, body: bytes) -> None:
    response = client.post("/api/chat", content=body)
    assert (response.status_code, list(response.json())) == (400, ["error"])


def test_paths_and_methods_that_are_not(client: TestClient) -> None:
    assert client.get("/api/nothing").status_code == 404
    assert client.get("/api/chat").status_code == 405
    assert list(client.get("/api/nothing").json()) == ["error"]
    assert client.head("/api/blobs/sha256:00").status_code == 404


def test_a_conversation_goes_to_the_scheduler(client: TestClient, script: Scripted) -> None:
    script.events = said("Hello")
    client.post("/api/generate", json={"model": "m", "prompt": "Hi", "options": {"stop": "x"}})
    client.post("/api/chat", json=BODY)
    generated, chatted = script.jobs
    assert generated.prompt == chatted.prompt
    assert generated.request.stop == ("x",)
