"""Errors as the `openai` package raises them: the class, the code, the field."""

from __future__ import annotations

from typing import Any

import pytest
from support.serve import KEY

openai = pytest.importorskip("openai", reason="pip install hearth[clients]")
HELLO: list[Any] = [{"role": "user", "content": "Hi"}]
IMAGE = {"type": "image_url", "image_url": {"url": "data:,"}}
TOOL = {"type": "function", "function": {"name": "f"}}


@pytest.fixture(scope="module")
def client(base: str) -> Any:

    return openai.OpenAI(base_url=base, api_key=KEY, max_retries=0)


def test_a_wrong_key(base: str) -> None:
    other = openai.OpenAI(base_url=base, api_key="wrong", max_retries=0)
    with pytest.raises(openai.AuthenticationError) as caught:
        other.models.list()
    assert caught.value.code == "invalid_api_key" and caught.value.type == "authentication_error"


def test_an_unknown_model(client: Any) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        client.chat.completions.create(model="other", messages=HELLO)
    assert (caught.value.code, caught.value.param) == ("model_not_found", "model")


def test_a_prompt_longer_than_the_context(client: Any) -> None:
    long = [{"role": "user", "content": "word " * 2000}]
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="tales", messages=long)
    assert (caught.value.code, caught.value.param) == ("context_length_exceeded", "messages")


BAD: list[tuple[str, dict[str, Any]]] = [
    ("messages", {"messages": []}),
    ("messages[0].role", {"messages": [{"role": "king", "content": "Hi"}]}),
    ("messages[0].content", {"messages": [{"role": "user"}]}),
    ("messages[0].content[0]", {"messages": [{"role": "user", "content": [IMAGE]}]}),
    ("messages[0].tool_call_id", {"messages": [{"role": "tool", "content": "x"}]}),
    ("messages[0].mood", {"messages": [{"role": "user", "content": "Hi", "mood": "good"}]}),
    ("temperature", {"temperature": 2.5}),
    ("temperature", {"temperature": "hot"}),
    ("top_p", {"top_p": 0}),
    ("n", {"n": 0}),
    ("max_tokens", {"max_tokens": 0}),
    ("max_completion_tokens", {"max_completion_tokens": 1.5}),
    ("presence_penalty", {"presence_penalty": -3}),
    ("frequency_penalty", {"frequency_penalty": 3}),
    ("seed", {"seed": 2**70}),
    ("stop", {"stop": [""] * 20}),
    ("stop", {"stop": ""}),
    ("logit_bias.x", {"logit_bias": {"x": 1}}),
    ("logit_bias.5", {"logit_bias": {"5": 101}}),
    ("logit_bias", {"logit_bias": {"99999": 1}}),
    ("top_logprobs", {"top_logprobs": 2}),
    ("top_logprobs", {"logprobs": True, "top_logprobs": 21}),
    ("stream_options", {"stream_options": {"include_usage": True}}),
    ("response_format.type", {"response_format": {"type": "xml"}}),
    ("response_format.json_schema", {"response_format": {"type": "json_schema"}}),
    ("tools[0].type", {"tools": [{"type": "hammer"}]}),
    ("tools[0].function.name", {"tools": [{"type": "function", "function": {"name": "a b"}}]}),
    ("tool_choice", {"tool_choice": "required"}),
    (
        "tool_choice",
        {"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "g"}}},
    ),
    ("tools", {"tools": [TOOL, TOOL]}),
    ("functions", {"functions": [{"name": "f"}]}),
    ("audio", {"audio": {"voice": "alloy", "format": "wav"}}),
    ("wish", {"extra_body": {"wish": 1}}),
    ("top_k", {"extra_body": {"top_k": -2}}),
    ("grammar", {"extra_body": {"regex": "a", "grammar": "b"}}),
    ("regex", {"extra_body": {"regex": "("}}),
    ("adapter", {"extra_body": {"adapter": "none"}}),
]


@pytest.mark.parametrize(
    ("field", "given"), BAD, ids=[f"{i}-{name}" for i, (name, _) in enumerate(BAD)]
)
def test_a_bad_field_is_named(client: Any, field: str, given: dict[str, Any]) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(**{"model": "tales", "messages": HELLO, **given})
    assert caught.value.param == field and caught.value.type == "invalid_request_error"


def test_a_schema_that_cannot_be_followed_is_refused(client: Any) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "nonsense"}}}
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="tales", messages=HELLO, response_format=form)
    assert caught.value.param == "response_format"


@pytest.mark.parametrize(
    ("field", "given"),
    [
        ("suffix", {"suffix": "x"}),
        ("best_of", {"n": 3, "best_of": 2}),
        ("best_of", {"best_of": 2, "stream": True}),
        ("max_tokens", {"max_tokens": -1}),
        ("logprobs", {"logprobs": 21}),
        ("prompt", {"prompt": {}}),
        ("prompt", {"prompt": []}),
        ("prompt[1]", {"prompt": ["a", 1]}),
        ("prompt", {"prompt": [99999]}),
        ("n", {"prompt": ["a", "b"], "n": 100}),
    ],
)
def test_a_bad_field_of_completions_is_named(
    client: Any, field: str, given: dict[str, Any]
) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.completions.create(**{"model": "tales", "prompt": "a", **given})
    assert caught.value.param == field
