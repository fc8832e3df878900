"""The fields that the endpoints take, a table for each, and what must hold between them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hearth.runtime.serving.openai.asked import (
    ChatRequest,
    CompletionRequest,
    EmbeddingRequest,
    Speech,
    StreamOptions,
)
from hearth.runtime.serving.openai.fields import Field, conflict, field, ignored, record, required
from hearth.runtime.serving.openai.forms import CHAT_FORMS, FORMS
from hearth.runtime.serving.openai.kinds import (
    boolean,
    integer,
    listing,
    mapping,
    number,
    refused,
    text,
    word,
)
from hearth.runtime.serving.openai.messages import CONVERSATION
from hearth.runtime.serving.openai.offered import TOOL, TOOL_CHOICE
from hearth.runtime.serving.openai.unread import UNREAD
from hearth.runtime.serving.openai.values import (
    NAME,
    TOKEN,
    adapter,
    biases,
    full,
    inputs,
    one_or_many,
    seed,
)

MOST_CHOICES = 128
MOST_TOP = 20  # log probabilities of other tokens
MOST_STOPS = 16
PENALTY = number(1e-6, 1e6)

SAMPLING: tuple[Field, ...] = (
    field("temperature", number(0, 2), "0: always the best token; 1 where neither it nor the archive says"),
    field("top_p", number(0, 1, above=True)),
    field("top_k", integer(-1, TOKEN), "Hearth's own: choose among the k best; 0 and -1: all"),
    field("min_p", number(0, 1), "Hearth's own: least probability beside that of the best"),
    field("typical_p", number(0, 1, above=True), "Hearth's own: locally typical sampling"),
    field("repetition_penalty", PENALTY, "Hearth's own: Hugging Face's penalty; 1: none"),
    field("repeat_penalty", PENALTY, "llama.cpp's name of repetition_penalty", into="repetition_penalty"),
    field("presence_penalty", number(-2, 2)),
    field("frequency_penalty", number(-2, 2)),
    field("penalty_window", integer(0, TOKEN), "Hearth's own: penalties look at so many tokens; 0: all"),
    field("logit_bias", biases(), "added to the logits of tokens, by id"),
    field("seed", seed(), "the same seed gives the same text"),
    field("stop", one_or_many(text(1), MOST_STOPS), "end before one of these"),
    field("stop_token_ids", listing(integer(0, TOKEN), 0, MOST_STOPS), "vLLM's: tokens that end the answer, too"),
    field("ignore_eos", boolean(), "Hearth's own: go on at the model's own end"),
    field("context_full", full(), "Hearth's own: at the end of the context"),
    field("adapter", adapter(), "Hearth's own: a LoRA adapter of the archive, {name, scale} or its name"),
)  # fmt: skip
TEMPLATE: tuple[Field, ...] = (
    field("chat_template_kwargs", mapping(), "Hearth's own: further names that the chat template reads"),
    field("enable_thinking", boolean(), "as in chat_template_kwargs"),
)  # fmt: skip

SPEECH: tuple[Field, ...] = (
    required("model", NAME, "a name of /v1/models"),
    *SAMPLING,
    field("n", integer(1, MOST_CHOICES), "answers to each prompt"),
    field("stream", boolean()),
    field("stream_options", record((
        field("include_usage", boolean()),
        ignored("include_obfuscation", boolean()), ignored("continuous_usage_stats", boolean()),
    ), StreamOptions)),
    ignored("user", text()),
    *UNREAD,
)  # fmt: skip

CHAT: tuple[Field, ...] = (
    required("messages", CONVERSATION),
    *SPEECH,
    *CHAT_FORMS,
    field("max_tokens", integer(1), "tokens of an answer at most; else the context is the limit"),
    field("max_completion_tokens", integer(1), "as max_tokens, which it overrides"),
    field("logprobs", boolean()),
    field("top_logprobs", integer(0, MOST_TOP), "needs logprobs, unless it is 0"),
    field("tools", listing(TOOL, 0, 128)),
    field("tool_choice", TOOL_CHOICE),
    field("parallel_tool_calls", boolean()),
    *TEMPLATE,
    ignored("modalities", listing(word("text"), 1)),
    field("audio", refused("answers are text")),
    field("web_search_options", refused("this server does not search")),
    field("moderation", refused("this server does not moderate")),
    field("functions", refused("use tools")),
    field("function_call", refused("use tool_choice")),
)  # fmt: skip

COMPLETION: tuple[Field, ...] = (
    required("prompt", inputs(), "a text, an array of token ids, or several of either"),
    *SPEECH,
    *FORMS,
    field("max_tokens", integer(0), "tokens of an answer at most, 16 unless it is said; 0: none"),
    field("echo", boolean(), "the prompt's text comes before the answer's, and with logprobs its tokens'"),
    field("logprobs", integer(0, MOST_TOP)),
    field("best_of", integer(1, MOST_CHOICES), "of so many answers the n with the best mean log probability"),
    field("suffix", refused("models continue a text at its end")),
)  # fmt: skip

EMBEDDING: tuple[Field, ...] = (
    required("model", NAME, "a name of /v1/models"),
    required("input", inputs(), "a text, an array of token ids, or several of either"),
    field("encoding_format", word("float", "base64")),
    field(
        "dimensions",
        integer(1),
        "the first columns, at length 1; the model's own number: as it makes them",
    ),
    field("prompt_name", text(), "of the instructions that the archive has for texts"),
    ignored("user", text()),
)

CHAT_KIND = record(CHAT, ChatRequest)
COMPLETION_KIND = record(COMPLETION, CompletionRequest)
EMBEDDING_KIND = record(EMBEDDING, EmbeddingRequest)


def read_chat(body: Mapping[str, Any]) -> ChatRequest:
    """Refusal 400 names the field that is wrong, or the two that contradict each other."""
    request: ChatRequest = CHAT_KIND.read(body, "")
    if request.top_logprobs and not request.logprobs:
        conflict("top_logprobs", "logprobs must be true for top_logprobs")
    _check_speech(request)
    check_tools(request)
    return request


def read_completion(body: Mapping[str, Any]) -> CompletionRequest:
    """Refusal 400 names the field that is wrong, or the two that contradict each other."""
    request: CompletionRequest = COMPLETION_KIND.read(body, "")
    _check_speech(request)
    if request.best_of is not None and request.best_of < request.n:
        conflict("best_of", f"best_of is {request.best_of}, fewer than n, {request.n}")
    if request.best_of is not None and request.best_of > request.n and request.stream:
        conflict("best_of", "the best answers are not known before the end: best_of or stream")
    if len(request.prompt) * (request.best_of or request.n) > MOST_CHOICES:
        conflict("n", f"more than {MOST_CHOICES} answers are asked for at once")
    return request


def read_embedding(body: Mapping[str, Any]) -> EmbeddingRequest:
    """Refusal 400 names the field that is wrong."""
    request: EmbeddingRequest = EMBEDDING_KIND.read(body, "")
    return request


def _check_speech(request: Speech) -> None:
    if request.stream_options is not None and not request.stream:
        conflict("stream_options", "stream must be true for stream_options")


def check_tools(request: ChatRequest) -> None:
    """What must hold between the tools and the one that must be called."""
    choice, offered = request.tool_choice, [tool["function"]["name"] for tool in request.tools]
    if len(set(offered)) < len(offered):
        conflict("tools", "two tools have the same name")
    if choice is None or choice.mode != "required":
        return
    if not offered:
        conflict("tool_choice", "a tool must be called, and there are no tools")
    if choice.name is not None and choice.name not in offered:
        conflict(
            "tool_choice", f"there is no tool {choice.name!r}; expected one of {', '.join(offered)}"
        )
    if request.form is not None:
        conflict("tool_choice", "a tool must be called: the answer cannot have another form too")
