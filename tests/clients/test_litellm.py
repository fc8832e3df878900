"""LiteLLM, which speaks to any server of OpenAI's interface."""

from __future__ import annotations

import os
from typing import Any

import pytest
from support.serve import KEY

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # it would fetch one when imported
litellm = pytest.importorskip("litellm", reason="pip install hearth[clients]")
HELLO = [{"role": "user", "content": "Once upon a time"}]


@pytest.fixture(scope="module")
def place(base: str) -> dict[str, Any]:

    return {"api_base": base, "api_key": KEY, "num_retries": 0, "max_retries": 0}


def test_completion_and_stream_agree(place: dict[str, Any]) -> None:
    fields: dict[str, Any] = {
        "model": "openai/tales",
        "messages": HELLO,
        "max_tokens": 12,
        "temperature": 0,
    }
    whole = litellm.completion(**fields, **place)
    assert whole.choices[0].message.content and whole.usage.completion_tokens == 12
    chunks = litellm.completion(**fields, **place, stream=True)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert text == whole.choices[0].message.content


def test_tools(place: dict[str, Any]) -> None:
    tool = {
        "type": "function",
        "function": {
            "name": "pick",
            "parameters": {
                "type": "object",
                "properties": {"n": {"enum": [1, 2]}},
                "required": ["n"],
                "additionalProperties": False,
            },
        },
    }
    found = litellm.completion(
        model="openai/tales", messages=HELLO, tools=[tool], tool_choice="required", max_tokens=200,
        temperature=0, **place,
    )  # fmt: skip
    assert found.choices[0].message.tool_calls[0].function.name == "pick"


def test_json(place: dict[str, Any]) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"enum": [["a"], ["b"]]}}}
    found = litellm.completion(
        model="openai/tales",
        messages=HELLO,
        response_format=form,
        max_tokens=40,
        temperature=0,
        **place,
    )
    assert found.choices[0].message.content.replace(" ", "") in ('["a"]', '["b"]')


def test_text_completion(place: dict[str, Any]) -> None:
    found = litellm.text_completion(
        model="text-completion-openai/tales",
        prompt="Once upon",
        max_tokens=5,
        temperature=0,
        **place,
    )
    assert found.choices[0].text


def test_embedding(place: dict[str, Any]) -> None:
    found = litellm.embedding(
        model="openai/words", input=["av", "bw"], encoding_format="float", **place
    )
    assert len(found.data) == 2 and len(found.data[0]["embedding"]) == 24


def test_errors(place: dict[str, Any]) -> None:
    with pytest.raises(litellm.NotFoundError):
        litellm.completion(model="openai/other", messages=HELLO, **place)
    with pytest.raises(litellm.AuthenticationError):
        litellm.completion(model="openai/tales", messages=HELLO, **{**place, "api_key": "wrong"})
    with pytest.raises(litellm.BadRequestError):
        litellm.completion(model="openai/tales", messages=HELLO, n=0, **place)
