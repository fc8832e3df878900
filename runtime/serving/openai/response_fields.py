"""The fields of POST /v1/responses, as a chat and what its answer repeats."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from hearth.runtime.generation.writing import Full
from hearth.runtime.grammar import GrammarWish
from hearth.runtime.serving.openai.asked import ResponseRequest, ToolChoice
from hearth.runtime.serving.openai.fields import Field, field, ignored, record, required
from hearth.runtime.serving.openai.forms import FORMS, TEXT_FORMAT
from hearth.runtime.serving.openai.items import CONVERSATION
from hearth.runtime.serving.openai.kinds import (
    any_value,
    boolean,
    either,
    integer,
    listing,
    made,
    mapping,
    only_false,
    refused,
    tagged,
    text,
    word,
)
from hearth.runtime.serving.openai.messages import Message
from hearth.runtime.serving.openai.offered import FUNCTION_FIELDS
from hearth.runtime.serving.openai.requests import SAMPLING, TEMPLATE, check_tools
from hearth.runtime.serving.openai.values import NAME

WHOLE_CONVERSATION = "answers are not kept: give all of the conversation as input"
FUNCTIONS_ALONE = refused("give functions")
HOSTED = (
    "web_search", "web_search_preview", "file_search", "code_interpreter", "computer_use_preview", "image_generation",
    "mcp", "local_shell", "shell", "apply_patch", "custom",
)  # fmt: skip
INCLUDED = (  # of items that this server does not make
    "reasoning.encrypted_content", "file_search_call.results", "web_search_call.results",
    "web_search_call.action.sources", "code_interpreter_call.outputs", "computer_call_output.output.image_url",
    "message.input_image.image_url",
)  # fmt: skip
IGNORED = (
    "max_tool_calls", "prompt_cache_key", "prompt_cache_options", "prompt_cache_retention", "reasoning",
    "safety_identifier", "service_tier", "stream_options", "user",
)  # fmt: skip


def _tool(type: str, **function: Any) -> Mapping[str, Any]:
    return {"type": type, "function": function}


def _form(format: GrammarWish | None = None) -> GrammarWish | None:
    return format


TOOL = tagged(
    "type",
    {
        "function": record((required("type", word("function")), *FUNCTION_FIELDS), _tool),
        **dict.fromkeys(HOSTED, FUNCTIONS_ALONE),
    },
)
TOOL_CHOICE = either(
    (str, made(word("none", "auto", "required"), ToolChoice)),
    (
        dict,
        tagged(
            "type",
            {
                "function": record(
                    (required("type", word("function")), required("name", NAME)),
                    lambda type, name: ToolChoice("required", name),
                ),
                "allowed_tools": refused("give the tools that are allowed alone"),
                **dict.fromkeys(HOSTED, FUNCTIONS_ALONE),
            },
        ),
    ),
)
TRUNCATION = made(word("disabled", "auto"), lambda wish: Full.SLIDE if wish == "auto" else None)

RESPONSE: tuple[Field, ...] = (
    required("model", NAME, "a name of /v1/models"),
    required("input", CONVERSATION, "a text, or the items of a conversation"),
    field("instructions", text(), "a system message before the input"),
    field("max_output_tokens", integer(1), "tokens of an answer at most; else the context is the limit",
          into="max_tokens"),
    field("text", record((field("format", TEXT_FORMAT), ignored("verbosity", text())), _form), into="form"),
    *SAMPLING,
    *FORMS,
    *TEMPLATE,
    field("stream", boolean()),
    field("tools", listing(TOOL, 0, 128)),
    field("tool_choice", TOOL_CHOICE),
    field("parallel_tool_calls", boolean()),
    field("truncation", TRUNCATION, "auto: context_full slide", into="context_full"),
    ignored("metadata", mapping(), "repeated in the answer"),
    ignored("include", listing(word(*INCLUDED))),
    ignored("store", only_false(WHOLE_CONVERSATION)),
    ignored("background", only_false("wait for the answer, or stream it")),
    field("previous_response_id", refused(WHOLE_CONVERSATION)),
    field("conversation", refused(WHOLE_CONVERSATION)),
    field("prompt", refused("give instructions and input")),
    field("context_management", refused("give what the model is to read")),
    field("moderation", refused("this server does not moderate")),
    field("top_logprobs", refused("chat completions give log probabilities")),
    *(ignored(name, any_value()) for name in IGNORED),
)  # fmt: skip

# What an answer says of its request where the request does not.
REPEATED: Mapping[str, Any] = MappingProxyType(
    {
        "instructions": None,
        "max_output_tokens": None,
        "metadata": {},
        "parallel_tool_calls": True,
        "temperature": None,
        "text": {"format": {"type": "text"}},
        "tool_choice": "auto",
        "tools": [],
        "top_p": None,
        "truncation": "disabled",
    }
)


def _request(
    input: tuple[Message, ...], instructions: str | None = None, **rest: Any
) -> ResponseRequest:
    system = () if instructions is None else ({"role": "system", "content": instructions},)
    return ResponseRequest(messages=(*system, *input), **rest)


RESPONSE_KIND = record(RESPONSE, _request)


def read_response(body: Mapping[str, Any]) -> ResponseRequest:
    """Refusal 400 names the field that is wrong, or the two that contradict each other."""
    request: ResponseRequest = RESPONSE_KIND.read(body, "")
    check_tools(request)
    given = {name: body.get(name) for name in REPEATED}
    return replace(
        request,
        repeated={
            name: default if given[name] is None else given[name]
            for name, default in REPEATED.items()
        },
    )
