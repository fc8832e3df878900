"""The `openai` package's chat completions: each field, whole and streamed."""

from __future__ import annotations

import asyncio
import json
import math
from typing import Any

import pytest
from support.serve import KEY

openai = pytest.importorskip("openai", reason="pip install hearth[clients]")

HELLO: list[Any] = [{"role": "user", "content": "Once upon a time"}]
TOOL: Any = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather of a place",
        "parameters": {
            "type": "object",
            "properties": {"place": {"enum": ["Rome", "Oslo"]}},
            "required": ["place"],
            "additionalProperties": False,
        },
    },
}
SCHEMA = {
    "type": "object",
    "properties": {"colour": {"enum": ["red", "blue"]}, "size": {"enum": [1, 2, 3]}},
    "required": ["colour", "size"],
    "additionalProperties": False,
}
CALL = '<tool_call>\\n\\{"name": "weather", "arguments": \\{"place": "Rome"\\}\\}\\n</tool_call>'


@pytest.fixture(scope="module")
def client(base: str) -> Any:

    return openai.OpenAI(base_url=base, api_key=KEY, max_retries=0)


def chat(client: Any, **fields: Any) -> Any:
    fields = {"model": "tales", "messages": HELLO, "max_tokens": 8, "temperature": 0, **fields}
    return client.chat.completions.create(**fields)


def text(client: Any, **fields: Any) -> str:
    found: str = chat(client, **fields).choices[0].message.content
    return found


def streamed(client: Any, **fields: Any) -> tuple[str, list[Any]]:
    chunks = list(chat(client, stream=True, **fields))
    texts = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
    return "".join(texts), chunks


def test_an_answer_has_the_form_that_the_client_expects(client: Any) -> None:
    found = chat(client)
    assert (found.object, found.model, len(found.choices)) == ("chat.completion", "tales", 1)
    assert found.choices[0].message.role == "assistant" and found.choices[0].message.content
    assert found.choices[0].finish_reason == "length" and found.id.startswith("chatcmpl-")
    assert found.usage.completion_tokens == 8
    assert found.usage.total_tokens == found.usage.prompt_tokens + 8
    assert found.system_fingerprint.startswith("fp_")


def test_a_stream_says_what_the_whole_answer_says(client: Any) -> None:
    whole = chat(client)
    said, chunks = streamed(client)
    assert said == whole.choices[0].message.content
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-1].choices[0].finish_reason == "length"
    assert len({chunk.id for chunk in chunks}) == 1
    assert all(chunk.object == "chat.completion.chunk" and chunk.usage is None for chunk in chunks)


def test_include_usage_gives_a_last_chunk_without_choices(client: Any) -> None:
    _, chunks = streamed(client, stream_options={"include_usage": True})
    assert chunks[-1].choices == [] and chunks[-1].usage.completion_tokens == 8
    assert all(chunk.usage is None for chunk in chunks[:-1])


def test_max_completion_tokens_goes_before_max_tokens(client: Any) -> None:
    assert chat(client, max_completion_tokens=3).usage.completion_tokens == 3


def test_the_same_seed_gives_the_same_text(client: Any) -> None:
    texts = [text(client, temperature=1.5, seed=seed, max_tokens=24) for seed in (1, 1, 2, -1)]
    assert texts[0] == texts[1]
    assert len(set(texts)) > 1


def test_stop_ends_before_its_text(client: Any) -> None:
    whole = text(client, max_tokens=24)
    stop = whole.split()[3]
    found = chat(client, max_tokens=24, stop=[stop, "never said"])
    assert found.choices[0].message.content == whole[: whole.index(stop)]
    assert found.choices[0].finish_reason == "stop"
    assert streamed(client, max_tokens=24, stop=stop)[0] == whole[: whole.index(stop)]


def test_n_answers_are_numbered_and_the_prompt_counts_once(client: Any) -> None:
    one = chat(client)
    found = chat(client, n=3, temperature=1.5, seed=5, max_tokens=20)
    assert [choice.index for choice in found.choices] == [0, 1, 2]
    assert len({choice.message.content for choice in found.choices}) > 1
    assert found.usage.prompt_tokens == one.usage.prompt_tokens
    assert found.choices[0].message.content == text(client, temperature=1.5, seed=5, max_tokens=20)


def test_n_answers_are_streamed_side_by_side(client: Any) -> None:
    whole = chat(client, n=2, temperature=1.5, seed=5)
    texts = ["", ""]
    for chunk in chat(client, n=2, temperature=1.5, seed=5, stream=True):
        texts[chunk.choices[0].index] += chunk.choices[0].delta.content or ""
    assert texts == [choice.message.content for choice in whole.choices]


def test_logprobs_spell_the_text_and_name_the_best(client: Any) -> None:
    found = chat(client, logprobs=True, top_logprobs=3)
    content = found.choices[0].logprobs.content
    assert (
        b"".join(bytes(each.bytes) for each in content).decode() == found.choices[0].message.content
    )
    for each in content:
        assert len(each.top_logprobs) == 3 and each.logprob <= 0
        assert each.top_logprobs[0].token == each.token  # the temperature is 0
        assert sum(math.exp(top.logprob) for top in each.top_logprobs) <= 1.0001


def test_logprobs_are_streamed_with_their_text(client: Any) -> None:
    said, chunks = streamed(client, logprobs=True)
    parts = [chunk.choices[0].logprobs for chunk in chunks if chunk.choices[0].logprobs]
    tokens = [each for part in parts for each in part.content]
    assert b"".join(bytes(each.bytes) for each in tokens).decode() == said
    assert all(each.top_logprobs == [] for each in tokens)


def test_logit_bias_forces_and_bans_a_token(client: Any) -> None:
    forced = chat(client, logit_bias={"300": 100}, logprobs=True, max_tokens=3).choices[0]
    assert len({each.token for each in forced.logprobs.content}) == 1
    banned = text(client, logit_bias={"300": 100, "301": 99}, max_tokens=3)
    assert banned == forced.message.content
    assert text(client, logit_bias={"300": -100, "301": 99}, max_tokens=3) != banned


@pytest.mark.parametrize(
    "penalty",
    [{"frequency_penalty": 2}, {"presence_penalty": 2}, {"extra_body": {"repetition_penalty": 5}}],
)
def test_penalties_change_the_answer(client: Any, penalty: dict[str, Any]) -> None:
    """Where letters are as good as each other, the one that was there is not chosen again."""
    extra = {"regex": "[0-9]{12}", **penalty.get("extra_body", {})}
    plain = text(client, max_tokens=30, extra_body={"regex": "[0-9]{12}"})
    assert text(client, max_tokens=30, **{**penalty, "extra_body": extra}) != plain


@pytest.mark.parametrize(
    "extra", [{"top_k": 1}, {"min_p": 1.0}, {"top_p": 1e-9}, {"typical_p": 1.0, "top_k": 1}]
)
def test_samplers_of_our_own_are_extra_fields(client: Any, extra: dict[str, Any]) -> None:
    assert text(client, temperature=2.0, seed=3, extra_body=extra) == text(client)


def test_what_changes_nothing_is_taken(client: Any) -> None:
    fields = {"user": "u", "metadata": {"a": "b"}, "store": False, "service_tier": "auto"}
    assert text(client, **fields, extra_body={"safety_identifier": "x"}) == text(client)


def test_roles_and_parts_of_text(client: Any) -> None:
    messages: list[Any] = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "Hello"}], "name": "Ann"},
        {"role": "assistant", "content": "Yes?"},
        {"role": "user", "content": "Go on."},
    ]
    assert chat(client, messages=messages).usage.prompt_tokens > chat(client).usage.prompt_tokens


def test_json_mode_gives_an_object(client: Any) -> None:
    bias = {"temperature": 0.5, "seed": 4, "max_tokens": 200}
    found = chat(client, response_format={"type": "json_object"}, **bias)
    if found.choices[0].finish_reason == "stop":
        assert isinstance(json.loads(found.choices[0].message.content), dict)
    assert found.choices[0].message.content.lstrip().startswith("{")


@pytest.mark.parametrize("seed", range(4))
def test_a_schema_is_kept(client: Any, seed: int) -> None:
    form = {
        "type": "json_schema",
        "json_schema": {"name": "thing", "strict": True, "schema": SCHEMA},
    }
    fields: dict[str, Any] = {"temperature": 1.0, "seed": seed, "max_tokens": 80}
    found = chat(client, response_format=form, **fields)
    value = json.loads(found.choices[0].message.content)
    assert value["colour"] in ("red", "blue") and value["size"] in (1, 2, 3)
    assert found.choices[0].finish_reason == "stop"
    assert streamed(client, response_format=form, **fields)[0] == found.choices[0].message.content


def test_a_regular_expression_is_matched(client: Any) -> None:
    assert text(client, max_tokens=40, extra_body={"regex": "(red|blue) [0-9]{3}!"})[-1] == "!"


def test_a_grammar_is_followed(client: Any) -> None:
    found = text(client, max_tokens=40, extra_body={"grammar": 'start: "yes" | "no"'})
    assert found in ("yes", "no")


def test_a_tool_that_is_required_is_called(client: Any) -> None:
    found = chat(client, tools=[TOOL], tool_choice="required", max_tokens=200).choices[0]
    assert found.finish_reason == "tool_calls" and found.message.content is None
    call = found.message.tool_calls[0]
    assert call.type == "function" and call.function.name == "weather" and call.id
    assert json.loads(call.function.arguments)["place"] in ("Rome", "Oslo")


def test_a_tool_is_called_by_name(client: Any) -> None:
    other = {"type": "function", "function": {"name": "other"}}
    choice = {"type": "function", "function": {"name": "weather"}}
    found = chat(client, tools=[other, TOOL], tool_choice=choice, max_tokens=200).choices[0]
    assert [call.function.name for call in found.message.tool_calls] == ["weather"]


def test_calls_are_streamed(client: Any) -> None:
    chunks = list(chat(client, tools=[TOOL], tool_choice="required", max_tokens=200, stream=True))
    parts = [part for chunk in chunks for part in chunk.choices[0].delta.tool_calls or []]
    first, *more = [part for part in parts if part.index == 0]
    assert (first.type, first.function.name, first.function.arguments) == (
        "function",
        "weather",
        "",
    )
    assert first.id and len(more) > 1
    assert all((part.id, part.function.name) == (None, None) for part in more)
    arguments = "".join(part.function.arguments for part in more)
    assert json.loads(arguments)["place"] in ("Rome", "Oslo")
    assert chunks[-1].choices[0].finish_reason == "tool_calls"
    assert not any("tool_call>" in (chunk.choices[0].delta.content or "") for chunk in chunks)


def test_streamed_calls_are_those_of_the_whole_answer(client: Any) -> None:
    """As openai's own helper puts them together."""
    tool = {"type": "function", "function": {**TOOL["function"], "strict": True}}
    how = {"model": "tales", "messages": HELLO, "seed": 3, "max_tokens": 200}
    how |= {"tools": [tool], "tool_choice": "required"}
    whole = client.chat.completions.create(**how).choices[0]
    with client.chat.completions.stream(**how) as stream:
        deltas = [
            event.arguments_delta
            for event in stream
            if event.type == "tool_calls.function.arguments.delta"
        ]
        found = stream.get_final_completion().choices[0]
    assert found.finish_reason == whole.finish_reason == "tool_calls"
    calls = [call.function.arguments for call in whole.message.tool_calls]
    assert [call.function.arguments for call in found.message.tool_calls] == calls
    assert "".join(deltas) == "".join(calls)
    assert len(deltas) > 2 * len(calls)


def test_a_call_cut_short_has_what_there_is_of_it(client: Any) -> None:
    found = chat(client, tools=[TOOL], tool_choice="required", max_tokens=40).choices[0]
    assert (found.finish_reason, found.message.content) == ("length", None)
    (call,) = found.message.tool_calls
    assert call.function.name == "weather"
    with pytest.raises(ValueError):
        json.loads(call.function.arguments)


def test_one_call_alone_without_parallel_calls(client: Any) -> None:
    found = chat(
        client, tools=[TOOL], tool_choice="required", parallel_tool_calls=False, max_tokens=200
    )
    assert len(found.choices[0].message.tool_calls) == 1


def test_calls_that_the_model_makes_by_itself_are_found(client: Any) -> None:
    """The regular expression stands in for a model that was trained to call."""
    found = chat(
        client, tools=[TOOL], max_tokens=120, extra_body={"regex": f"Well\\. {CALL}"}
    ).choices[0]
    assert found.message.content == "Well."
    assert json.loads(found.message.tool_calls[0].function.arguments) == {"place": "Rome"}


def test_tool_choice_none_calls_nothing(client: Any) -> None:
    found = chat(
        client, tools=[TOOL], tool_choice="none", extra_body={"regex": CALL}, max_tokens=120
    )
    assert found.choices[0].message.tool_calls is None
    assert found.choices[0].message.content.startswith("<tool_call>")


def test_a_conversation_goes_on_after_a_tool(client: Any) -> None:
    first = chat(
        client, tools=[TOOL], tool_choice="required", parallel_tool_calls=False, max_tokens=200
    )
    message = first.choices[0].message
    result = {"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": "sunny"}
    messages = [*HELLO, message.model_dump(), result]
    assert chat(client, messages=messages, tools=[TOOL]).choices[0].message.content is not None


def test_an_adapter_is_named_by_the_model_or_by_a_field(client: Any) -> None:
    plain, loud = text(client), text(client, model="tales:loud")
    assert plain != loud and text(client, model="tales:latest") == plain
    assert text(client, extra_body={"adapter": "loud"}) == loud
    assert text(client, extra_body={"adapter": {"name": "loud", "scale": 0.0}}) == plain


def test_a_prompt_that_was_there_before_is_not_read_again(client: Any) -> None:
    messages = [{"role": "user", "content": "The same words again and again. " * 6}]
    first, second = chat(client, messages=messages), chat(client, messages=messages)
    assert second.usage.prompt_tokens_details.cached_tokens > first.usage.prompt_tokens // 2
    assert second.choices[0].message.content == first.choices[0].message.content


def test_the_parse_helper_of_the_client_reads_a_schema(client: Any) -> None:
    pydantic = pytest.importorskip("pydantic")
    kind = pydantic.create_model("Thing", count=(int, pydantic.Field(ge=1, le=9)))
    found = client.chat.completions.parse(
        model="tales", messages=HELLO, response_format=kind, max_tokens=60, temperature=0
    )
    assert 1 <= found.choices[0].message.parsed.count <= 9


def test_the_asynchronous_client_runs_several_at_once(base: str, client: Any) -> None:

    async def run() -> list[str]:
        async with openai.AsyncOpenAI(base_url=base, api_key=KEY, max_retries=0) as several:
            fields: dict[str, Any] = {
                "model": "tales",
                "messages": HELLO,
                "max_tokens": 20,
                "temperature": 1.0,
            }
            answers = [several.chat.completions.create(**fields, seed=seed) for seed in range(6)]
            return [each.choices[0].message.content for each in await asyncio.gather(*answers)]

    alone = [text(client, max_tokens=20, temperature=1.0, seed=seed) for seed in range(6)]
    assert asyncio.run(run()) == alone


def test_a_client_that_leaves_a_stream_frees_its_row(client: Any, served: Any) -> None:
    """More streams are left, one after the other, than there are rows and places in the queue."""
    for _ in range(90):
        with chat(client, stream=True, max_tokens=400, extra_body={"ignore_eos": True}) as stream:
            next(iter(stream))
    assert text(client)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"context_full": "stop"}, "length"),
        ({"context_full": "slide", "max_tokens": 520}, 520),
        ({"context_full": "error"}, "context_length_exceeded"),
    ],
)
def test_a_full_context_ends_slides_or_is_an_error(
    client: Any, fields: dict[str, Any], expected: Any
) -> None:
    asked: dict[str, Any] = {"max_tokens": None, "extra_body": {"ignore_eos": True, **fields}}
    if isinstance(expected, str) and expected != "length":
        with pytest.raises(openai.BadRequestError) as refused:
            chat(client, **asked)
        assert refused.value.code == expected
        return
    found = chat(client, **asked)
    assert found.choices[0].finish_reason == "length"
    count = found.usage.completion_tokens
    assert count == expected if isinstance(expected, int) else count < 512


def test_fields_of_other_servers_change_nothing(client: Any) -> None:
    """What Open-WebUI, vLLM's and llama.cpp's clients add to OpenAI's fields."""
    extra = {
        "chat_id": "1", "session_id": "2", "features": {"web_search": False}, "params": {}, "cache_prompt": True,
        "thinking": {"type": "disabled"}, "usage": {"include": True}, "skip_special_tokens": True,
    }  # fmt: skip
    assert text(client, extra_body=extra, user="me", store=False, metadata={"a": "b"}) == text(
        client
    )


def test_vllms_names_of_forms_and_settings(client: Any) -> None:
    assert text(client, extra_body={"guided_choice": ["red", "a 'b' \\"]}) in ("red", "a 'b' \\")
    assert text(client, extra_body={"structured_outputs": {"regex": "[0-9]{3}"}}).isdigit()
    said = json.loads(text(client, extra_body={"guided_json": SCHEMA}, max_tokens=40))
    assert set(said) == {"colour", "size"}
    stopped = chat(client, extra_body={"stop_token_ids": [300], "repeat_penalty": 1.0, "top_k": -1},
                   logit_bias={"300": 100})  # fmt: skip
    assert stopped.choices[0].finish_reason == "stop" and stopped.choices[0].message.content == ""
