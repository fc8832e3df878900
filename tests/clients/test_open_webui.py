"""What Open-WebUI asks of an Ollama server and of an OpenAI server, call by call, in the forms that its backend sends.

Its calls are read from its sources (routers/ollama.py, routers/openai.py), since it does not run beside these tests.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import httpx
import pytest
from support.serve import KEY, Served

MESSAGES = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Once upon"}]
SHORT = {"temperature": 0, "max_tokens": 6}


@pytest.fixture(scope="module")
def http(served: Served) -> Iterator[httpx.Client]:
    headers = {"Authorization": f"Bearer {KEY}", "X-OpenWebUI-User-Name": "Somebody"}
    with httpx.Client(base_url=served.url, headers=headers, timeout=30) as client:
        yield client


def sent(http: httpx.Client, path: str, body: dict[str, Any]) -> httpx.Response:
    """It sends JSON as data, and says what it is."""
    headers = {"Content-Type": "application/json"}
    return http.post(path, content=json.dumps(body), headers=headers)


def lines(answer: httpx.Response) -> list[Any]:
    return [json.loads(line) for line in answer.text.splitlines() if line]


def test_a_connection_to_ollama_is_verified(http: httpx.Client) -> None:
    version = http.get("/api/version").json()["version"]
    assert tuple(map(int, re.sub(r"^v|-.*", "", version).split(".")))  # as it compares versions


def test_models_of_ollama_are_found_by_their_names_with_a_tag(http: httpx.Client) -> None:
    """It adds `:latest` to names without a tag, and looks them up in what /api/tags says."""
    models = {model["model"]: model for model in http.get("/api/tags").json()["models"]}
    assert {"tales:latest", "tales:loud", "words:latest"} <= set(models)
    assert all(model["name"] == name for name, model in models.items())
    sent(http, "/api/generate", {"model": "tales:latest", "prompt": "", "keep_alive": -1})
    for model in http.get("/api/ps").json()["models"]:
        assert model["model"] in models
        assert int(datetime.fromisoformat(model["expires_at"]).timestamp()) > 0
    assert "completion" in sent(http, "/api/show", {"model": "tales:latest"}).json()["capabilities"]


def test_a_chat_with_ollama(http: httpx.Client) -> None:
    body = {
        "model": "tales:latest",
        "messages": MESSAGES,
        "options": {"temperature": 0, "num_predict": 6, "num_ctx": 2048, "num_thread": 2, "num_gpu": 0},
        "stream": True,
        "keep_alive": "5m",
        "chat_id": "1", "session_id": "2", "features": {}, "metadata": {},
    }  # fmt: skip
    found = lines(sent(http, "/api/chat", body))
    assert found[-1]["done"] and found[-1]["eval_count"] == 6
    assert "".join(each["message"]["content"] for each in found)
    title = {**body, "stream": False, "options": {"temperature": 0.1, "num_predict": 20}}
    assert sent(http, "/api/chat", title).json()["message"]["content"]


def test_documents_are_embedded(http: httpx.Client) -> None:
    body = {"model": "words:latest", "input": ["one text", "another"], "truncate": True}
    assert len(sent(http, "/api/embed", body).json()["embeddings"]) == 2
    old = {"model": "words:latest", "prompt": "one text"}
    assert sent(http, "/api/embeddings", old).json()["embedding"]
    openai = {"model": "words", "input": ["one text", "another"]}
    assert len(sent(http, "/v1/embeddings", openai).json()["data"]) == 2


def test_a_model_is_unloaded(http: httpx.Client) -> None:
    body = {"model": "tales:latest", "keep_alive": 0, "prompt": ""}
    assert sent(http, "/api/generate", body).json()["done_reason"] == "unload"


def test_a_connection_to_openai_is_verified_and_lists_models(http: httpx.Client) -> None:
    found = http.get("/v1/models").json()
    assert {"tales", "words"} <= {model["id"] for model in found["data"]}


def test_a_chat_with_openai(http: httpx.Client) -> None:
    """The last message is marked for caches; what the page sends beside OpenAI's fields comes along."""
    marked = [{"type": "text", "text": "Once upon", "cache_control": {"type": "ephemeral"}}]
    body = {
        "model": "tales", "stream": True, **SHORT, "top_p": 0.9, "frequency_penalty": 0.1, "seed": 3, "stop": ["zzz"],
        "messages": [MESSAGES[0], {"role": "user", "content": marked}],
        "stream_options": {"include_usage": True}, "reasoning": {"effort": "low"}, "logit_bias": {"300": 1},
        "chat_id": "1", "id": "2", "session_id": "3", "background_tasks": {"title_generation": True}, "features": {},
        "variables": {"{{USER_NAME}}": "Somebody"}, "params": {}, "tool_servers": [], "model_item": {"id": "tales"},
        "plugins": [],
    }  # fmt: skip
    answer = sent(http, "/v1/chat/completions", body)
    assert answer.headers["content-type"].startswith("text/event-stream")
    events = [line.removeprefix("data: ") for line in answer.text.splitlines() if line]
    assert events.pop() == "[DONE]"
    assert json.loads(events[-1])["usage"]["completion_tokens"] == 6


def test_titles_and_tags_are_asked_for(http: httpx.Client) -> None:
    body = {
        "model": "tales", "stream": False, "max_completion_tokens": 20, "messages": MESSAGES,
        "metadata": {"task": "title_generation", "chat_id": "1"},
    }  # fmt: skip
    assert sent(http, "/v1/chat/completions", body).json()["choices"][0]["message"]["content"]


def test_an_error_is_told_as_json(http: httpx.Client) -> None:
    answer = sent(http, "/v1/chat/completions", {"model": "none", "messages": MESSAGES})
    assert answer.status_code == 404 and answer.json()["error"]["message"]
    assert "error" in sent(http, "/api/chat", {"model": "none", "messages": MESSAGES}).json()
