"""The format of a published template; tools, calls and results as the template writes them, read back by the parser."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support.data import TEMPLATE_CASES
from tokenizers import AddedToken, Tokenizer, decoders, models

from hearth.runtime.text.chat_template import ChatTemplate
from hearth.runtime.text.tokenizer import Tokenizer as Reader
from hearth.runtime.tools import FORMATS, ToolParser, format_of, read_tools, template_messages

SPECIAL = {"bos_token": "<BOS>", "eos_token": "<EOS>"}
HERMES, LLAMA3, MISTRAL, QWEN_XML, MISTRAL_NAMED = FORMATS
EXPECTED = {
    "Bielik-11B-v3.0-Instruct": HERMES,
    "MiMo-VL": HERMES,
    "MiroThinker": HERMES,
    "NousResearch-Hermes-2-Pro-Llama-3-8B-tool_use": HERMES,
    "NousResearch-Hermes-3-Llama-3.1-8B-tool_use": HERMES,
    "Qwen-QwQ-32B": HERMES,
    "Qwen-Qwen2.5-7B-Instruct": HERMES,
    "Qwen-Qwen3-0.6B": HERMES,
    "Reka-Edge": HERMES,
    "meta-llama-Llama-3.1-8B-Instruct": LLAMA3,
    "meta-llama-Llama-3.2-3B-Instruct": LLAMA3,
    "meta-llama-Llama-3.3-70B-Instruct": LLAMA3,
    "mistralai-Mistral-Nemo-Instruct-2407": MISTRAL,
    "Mistral-Small-3.2-24B-Instruct-2506": MISTRAL_NAMED,
    "mistralai-Ministral-3-14B-Reasoning-2512": MISTRAL_NAMED,
    "unsloth-mistral-Devstral-Small-2507": MISTRAL_NAMED,
    "NVIDIA-Nemotron-3-Nano-30B-A3B-BF16": QWEN_XML,
    "Qwen3-Coder": QWEN_XML,
    "Qwen3.5-4B": QWEN_XML,
    "StepFun3.5-Flash": QWEN_XML,
    "stepfun-ai-Step-3.5-Flash": QWEN_XML,
}
TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a place.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "description": "where"}},
            "required": ["city"],
        },
    },
}
ARGUMENTS = {"city": 'Zürich "HB"'}
CALL = {
    "id": "abcdefghi",
    "type": "function",
    "function": {"name": "get_weather", "arguments": json.dumps(ARGUMENTS)},
}
QUESTION = {"role": "user", "content": "What is the weather?"}
ANSWER = {"role": "assistant", "content": None, "tool_calls": [CALL]}
RESULT = {"role": "tool", "tool_call_id": "abcdefghi", "content": "17 degrees"}
CANNOT = {"MiroThinker"}  # its template sets attributes of messages, which no sandbox allows


def rendered(path: Path, messages: list[dict[str, Any]], **more: Any) -> str:
    template = ChatTemplate(path.read_text(), SPECIAL)
    return template.render(template_messages(messages), tools=[TOOL], **more)


@pytest.mark.parametrize("path", TEMPLATE_CASES, ids=lambda path: path.stem)
def test_the_format_of_a_published_template(path: Path) -> None:
    assert format_of(path.read_text()) is EXPECTED.get(path.stem)


CASES = [
    path if path.stem in EXPECTED else pytest.param(path, marks=pytest.mark.skip("no known format"))
    for path in TEMPLATE_CASES
    if isinstance(path, Path) and path.stem in EXPECTED
] or TEMPLATE_CASES


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_what_a_template_writes_is_what_the_parser_reads(path: Path) -> None:
    """Tools, a call and its result are in the prompt, and the call as it is written there parses as that call."""
    format = EXPECTED[path.stem]
    if path.stem in CANNOT:
        pytest.skip("the template fails on calls")
    question = rendered(path, [QUESTION])
    assert "get_weather" in question and "where" in question
    called = rendered(path, [QUESTION, ANSWER, RESULT])
    assert "17 degrees" in called
    before = rendered(path, [QUESTION], add_generation_prompt=False)
    rest = called[len(before) :]
    start = rest.find(format.opening) if format.opening in rest else rest.find('{"name"')
    end = (
        rest.find(format.closing) + len(format.closing) if format.closing else rest.find("<", start)
    )
    parser = ToolParser(format, read_tools([TOOL]), lambda: "id")
    pushed, flushed = parser.push(rest[start:end]), parser.flush()
    (call,) = pushed[1] + flushed[1]
    assert (call.name, json.loads(call.arguments)) == ("get_weather", ARGUMENTS)


def test_marks_that_are_special_tokens_stay_in_the_text() -> None:
    backend = Tokenizer(models.BPE(vocab={"a": 0, "b": 1}, merges=[]))
    backend.decoder = decoders.Fuse()
    backend.add_special_tokens([AddedToken("<tool_call>"), AddedToken("<end>")])
    backend.add_tokens([AddedToken("</tool_call>", special=False)])
    tokenizer = Reader(backend, {})
    ids = [0, 2, 1, 4, 3, 0]
    assert tokenizer.decode(ids) == "ab</tool_call>a"
    assert HERMES.decode(tokenizer)(ids) == "a<tool_call>b</tool_call>a"
    assert LLAMA3.decode(tokenizer)(ids) == tokenizer.decode(ids)
    assert HERMES.special_marks(tokenizer) == {2: "<tool_call>"}


def test_messages_are_made_what_templates_read() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    image = [{"type": "image_url", "image_url": {}}]
    bad = {"id": "x", "function": {"name": "f", "arguments": "{broken"}}
    empty = {"id": "x", "function": {"name": "f", "arguments": ""}}
    messages = [
        {"role": "user", "content": parts},
        {"role": "user", "content": image},
        {"role": "assistant", "content": None, "tool_calls": [CALL, bad, empty, "odd"]},
        {"role": "tool", "content": "r", "tool_call_id": "abcdefghi"},
    ]
    made = template_messages(messages)
    assert made[0] == {"role": "user", "content": "a\nb"}
    assert made[1] == messages[1] and made[3] == messages[3]
    arguments = [call["function"]["arguments"] for call in made[2]["tool_calls"][:3]]
    assert arguments == [ARGUMENTS, "{broken", {}] and made[2]["content"] == ""
    assert made[2]["tool_calls"][3] == "odd"
    assert messages[2]["tool_calls"][0] is CALL and isinstance(CALL["function"]["arguments"], str)  # type: ignore[index]
