"""Bodies of Ollama's endpoints: what is read, what is ignored, what is refused by its name."""

from __future__ import annotations

import math
from typing import Any

import pytest

from hearth.runtime.serving.ollama.options import Options
from hearth.runtime.serving.ollama.requests import (
    read_chat,
    read_embed,
    read_embeddings,
    read_generate,
)
from hearth.runtime.serving.refusals import Refusal


def test_the_least_that_can_be_asked() -> None:
    request = read_generate({"model": "m"})
    assert (request.prompt, request.system, request.raw, request.context) == ("", "", False, ())
    common = request.common
    assert (common.model, common.stream, common.format, common.keep_alive) == (
        "m",
        True,
        None,
        None,
    )
    assert (common.options, common.logprobs, common.truncate) == (Options(), None, True)


def test_every_field_of_generate() -> None:
    request = read_generate(
        {
            "model": "m",
            "prompt": "p",
            "system": "s",
            "context": [1, 2],
            "stream": False,
            "format": {"type": "object"},
            "keep_alive": -1,
            "options": {"seed": 1},
            "logprobs": True,
            "top_logprobs": 3,
            "truncate": False,
            "think": False,
            "suffix": "",
            "template": "",
            "images": [],
        }
    )
    assert (request.prompt, request.system, request.context) == ("p", "s", (1, 2))
    common = request.common
    assert common.format == {"type": "object"}
    assert (common.stream, common.keep_alive, common.logprobs) == (False, math.inf, 3)
    assert (common.truncate, common.think, common.options.seed) == (False, False, 1)


def test_every_option() -> None:
    options = {
        "num_ctx": 1024,
        "num_keep": 5,
        "num_predict": 100,
        "seed": 42,
        "stop": ["\n", "user:"],
        "temperature": 1,
        "top_k": 20.0,
        "top_p": 0.9,
        "min_p": 0.0,
        "typical_p": 0.7,
        "repeat_penalty": 1.2,
        "repeat_last_n": -1,
        "presence_penalty": 1.5,
        "frequency_penalty": 1.0,
        "mirostat": 1,
        "num_gpu": 1,
        "main_gpu": None,
        "invented": "ignored",
    }
    found = read_generate({"model": "m", "options": options}).common.options
    assert found == Options(
        num_ctx=1024,
        num_keep=5,
        num_predict=100,
        seed=42,
        stop=("\n", "user:"),
        temperature=1.0,
        top_k=20,
        top_p=0.9,
        min_p=0.0,
        typical_p=0.7,
        repeat_penalty=1.2,
        repeat_last_n=-1,
        presence_penalty=1.5,
        frequency_penalty=1.0,
    )


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "model"),
        ({"model": ""}, "model"),
        ({"model": 3}, "model"),
        ({"model": "m", "prompt": ["a"]}, "prompt"),
        ({"model": "m", "stream": "yes"}, "stream"),
        ({"model": "m", "format": "xml"}, "format"),
        ({"model": "m", "format": 3}, "format"),
        ({"model": "m", "suffix": "}"}, "suffix"),
        ({"model": "m", "template": "{{ .Prompt }}"}, "template"),
        ({"model": "m", "images": ["aGk="]}, "images"),
        ({"model": "m", "think": True}, "think"),
        ({"model": "m", "think": "low"}, "think"),
        ({"model": "m", "raw": True, "system": "s"}, "raw"),
        ({"model": "m", "raw": True, "context": [1]}, "raw"),
        ({"model": "m", "context": [1.5]}, "context"),
        ({"model": "m", "context": "1 2"}, "context"),
        ({"model": "m", "top_logprobs": 21}, "top_logprobs"),
        ({"model": "m", "options": []}, "options"),
        ({"model": "m", "options": {"seed": "1"}}, "options.seed"),
        ({"model": "m", "options": {"seed": 1.5}}, "options.seed"),
        ({"model": "m", "options": {"seed": True}}, "options.seed"),
        ({"model": "m", "options": {"temperature": math.nan}}, "options.temperature"),
        ({"model": "m", "options": {"stop": [1]}}, "options.stop"),
        ({"model": "m", "options": {"num_ctx": 0}}, "options.num_ctx"),
        ({"model": "m", "options": {"temperature": 10**400}}, "options.temperature"),
        ({"model": "m", "options": {"min_p": -(10**400)}}, "options.min_p"),
    ],
)
def test_generate_refuses_by_the_fields_name(body: dict[str, Any], field: str) -> None:
    with pytest.raises(Refusal) as caught:
        read_generate(body)
    assert (caught.value.status, caught.value.parameter) == (400, field)


def test_a_seed_keeps_all_its_digits() -> None:
    body = {"model": "m", "options": {"seed": 2**64 - 1}}
    assert read_generate(body).common.options.seed == 2**64 - 1


def test_messages_take_the_form_that_templates_of_transformers_read() -> None:
    call = {"function": {"name": "add", "arguments": {"a": 1}}}
    request = read_chat(
        {
            "model": "m",
            "messages": [
                {"role": "user", "content": "1 + 1?", "images": None},
                {"role": "assistant", "tool_calls": [call]},
                {"role": "tool", "content": "2", "tool_name": "add"},
            ],
            "tools": [{"type": "function", "function": {"name": "add"}}],
        }
    )
    assert request.messages == (
        {"role": "user", "content": "1 + 1?"},
        {"role": "assistant", "content": "", "tool_calls": [{"type": "function", **call}]},
        {"role": "tool", "content": "2", "name": "add"},
    )
    assert len(request.tools) == 1


@pytest.mark.parametrize(
    ("messages", "field"),
    [
        ("hello", "messages"),
        (["hello"], "messages"),
        ([{"content": "no role"}], "messages[0].role"),
        ([{"role": "user", "content": 3}], "messages[0].content"),
        ([{"role": "user", "images": ["aGk="]}], "messages[0].images"),
        ([{"role": "assistant", "tool_calls": [{}]}], "messages[0].tool_calls[0].function.name"),
    ],
)
def test_chat_says_which_message_is_wrong(messages: object, field: str) -> None:
    with pytest.raises(Refusal) as caught:
        read_chat({"model": "m", "messages": messages})
    assert caught.value.parameter == field


def test_one_text_or_several_to_embed() -> None:
    assert read_embed({"model": "m", "input": "a"}).texts == ("a",)
    request = read_embed({"model": "m", "input": ["a", "b"], "truncate": False, "dimensions": 8})
    assert (request.texts, request.truncate, request.dimensions) == (("a", "b"), False, 8)
    assert read_embeddings({"name": "m", "prompt": "a"}).texts == ("a",)
    for wrong in ({"model": "m"}, {"model": "m", "input": 3}, {"model": "m", "input": [1]}):
        with pytest.raises(Refusal, match="input"):
            read_embed(wrong)
