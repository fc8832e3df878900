"""What the endpoints take: a frozen dataclass and a table of fields for each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hearth.runtime.adapters import AdapterUse
from hearth.runtime.grammar import Ebnf, GrammarWish, JsonObject, JsonSchema, Regex
from hearth.runtime.serving.openai.fields import Field, field, ignored, record, required
from hearth.runtime.serving.openai.kinds import (
    Kind,
    any_value,
    boolean,
    either,
    integer,
    listing,
    mapping,
    number,
    refused,
    tagged,
    text,
    word,
    wrong,
)
from hearth.runtime.serving.openai.messages import CONVERSATION, Message
from hearth.runtime.serving.refusals import Refusal

MOST_CHOICES = 128
MOST_TOP = 20  # log probabilities of other tokens
MOST_STOPS = 16
MOST_BIASES = 1024
MOST_INPUTS = 2048
TOKEN = 2**31 - 1
NAME = text(1, 256)

Ids = tuple[int, ...]


@dataclass(frozen=True)
class StreamOptions:
    """`include_usage`: a last chunk tells what was used."""

    include_usage: bool = False


@dataclass(frozen=True)
class ToolChoice:
    """Which tools must or may be called: `mode` is none, auto or required; `name` is the one that must."""

    mode: str
    name: str | None = None


@dataclass(frozen=True)
class Speech:
    """What chat completions and completions have in common. None is left to the archive."""

    model: str
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    typical_p: float | None = None
    repetition_penalty: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    penalty_window: int | None = None
    logit_bias: tuple[tuple[int, float], ...] = ()
    seed: int | None = None
    stop: tuple[str, ...] = ()
    ignore_eos: bool = False
    n: int = 1
    stream: bool = False
    stream_options: StreamOptions | None = None
    adapter: AdapterUse | None = None
    regex: Regex | None = None
    grammar: Ebnf | None = None


@dataclass(frozen=True)
class ChatRequest(Speech):
    """POST /v1/chat/completions"""

    messages: tuple[Message, ...] = ()
    max_completion_tokens: int | None = None
    logprobs: bool = False
    top_logprobs: int | None = None
    response_format: GrammarWish | None = None
    tools: tuple[Mapping[str, Any], ...] = ()
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool = True
    chat_template_kwargs: Mapping[str, Any] | None = None

    @property
    def limit(self) -> int | None:
        """Tokens of an answer at most."""
        return self.max_tokens if self.max_completion_tokens is None else self.max_completion_tokens


@dataclass(frozen=True)
class CompletionRequest(Speech):
    """POST /v1/completions; `prompt` are texts or ids, one or several."""

    prompt: tuple[str | Ids, ...] = ()
    echo: bool = False
    logprobs: int | None = None
    best_of: int | None = None


@dataclass(frozen=True)
class EmbeddingRequest:
    """POST /v1/embeddings"""

    model: str
    input: tuple[str | Ids, ...] = ()
    encoding_format: str = "float"
    dimensions: int | None = None
    prompt_name: str | None = None


def _one_or_many(kind: Kind, most: int) -> Kind:
    """A value or an array of them, always as a tuple."""
    return either((list, listing(kind, 0, most)), (object, _alone(kind)))


def _alone(kind: Kind) -> Kind:
    return Kind(lambda value, place: (kind.read(value, place),), kind.schema)


def _inputs() -> Kind:
    """Texts or ids, one or several, always as a tuple."""
    ids = listing(integer(0, TOKEN), 1)
    several = [listing(kind, 1, MOST_INPUTS).schema for kind in (text(), ids)]
    schema = {"anyOf": [text().schema, ids.schema, *several]}

    def read(value: Any, place: str) -> tuple[str | Ids, ...]:
        if isinstance(value, str):
            return (text().read(value, place),)
        if not isinstance(value, list) or not value:
            wrong(place, value, "a text, an array of token ids, or an array of such")
        if isinstance(value[0], int | float):
            return (ids.read(value, place),)
        if isinstance(value[0], str):
            return listing(text(), 1, MOST_INPUTS).read(value, place)  # type: ignore[no-any-return]
        return listing(ids, 1, MOST_INPUTS).read(value, place)  # type: ignore[no-any-return]

    return Kind(read, schema)


def _token_id(name: str, place: str) -> int:
    if not name.isascii() or not name.isdigit() or len(name) > 10 or int(name) > TOKEN:
        wrong(f"{place}.{name:.40}", name, "a token id as the name")
    return int(name)


def _biases() -> Kind:
    kind = mapping(number(-100, 100), _token_id)

    def read(value: Any, place: str) -> tuple[tuple[int, float], ...]:
        found = kind.read(value, place)
        if len(found) != len(value) or len(found) > MOST_BIASES:
            wrong(place, f"{len(value)} biases", f"at most {MOST_BIASES}, each token once")
        return tuple(found.items())

    names = {"pattern": "^(0|[1-9][0-9]{0,8})$"}
    schema = {**kind.schema, "propertyNames": names, "maxProperties": MOST_BIASES}
    return Kind(read, schema)


def _seed() -> Kind:
    """OpenAI's seeds have a sign; the generator's are those modulo 2^64."""
    kind = integer(-(2**63), 2**64 - 1)
    return Kind(lambda value, place: kind.read(value, place) % 2**64, kind.schema)


def _adapter() -> Kind:
    """A name, or an object that also says the scale."""
    scaled = record((required("name", NAME), field("scale", number(-1e6, 1e6))), AdapterUse)
    return either((str, _made(NAME, AdapterUse)), (dict, scaled))


def _made(kind: Kind, make: Any) -> Kind:
    return Kind(lambda value, place: make(kind.read(value, place)), kind.schema)


def _schema_format(type: str, json_schema: GrammarWish) -> GrammarWish:
    return json_schema


def _json_schema(name: str, schema: Mapping[str, Any] | None = None) -> GrammarWish:
    return JsonObject() if schema is None else JsonSchema.of(schema)


NAMED_SCHEMA = record(
    (
        required("name", text(1, 64)),
        field("schema", mapping()),
        ignored("description", text()),
        ignored("strict", boolean(), "answers always keep the schema"),
    ),
    _json_schema,
)
RESPONSE_FORMAT = tagged(
    "type",
    {
        "text": record((required("type", word("text")),), lambda type: None),
        "json_object": record((required("type", word("json_object")),), lambda type: JsonObject()),
        "json_schema": record(
            (required("type", word("json_schema")), required("json_schema", NAMED_SCHEMA)),
            _schema_format,
        ),
    },
)


def _object(**values: Any) -> dict[str, Any]:
    return values


def _function_name() -> Kind:
    kind = text(1, 64)

    def read(value: Any, place: str) -> str:
        name: str = kind.read(value, place)
        if not all(each.isascii() and (each.isalnum() or each in "_-") for each in name):
            wrong(place, name, "letters, digits, _ and -")
        return name

    return Kind(read, {**kind.schema, "pattern": "^[a-zA-Z0-9_-]+$"})


FUNCTION = record(
    (
        required("name", _function_name()),
        field("description", text()),
        field("parameters", mapping()),
        ignored("strict", boolean(), "arguments keep their schema where a call is required"),
    ),
    _object,
)
TOOL = tagged(
    "type",
    {
        "function": record(
            (required("type", word("function")), required("function", FUNCTION)), _object
        ),
        "custom": refused("give functions"),
    },
)
FUNCTION_CHOICE = record(
    (
        required("type", word("function")),
        required("function", record((required("name", NAME),), _object)),
    ),
    lambda type, function: ToolChoice("required", function["name"]),
)
TOOL_CHOICE = either(
    (str, _made(word("none", "auto", "required"), ToolChoice)),
    (
        dict,
        tagged(
            "type",
            {
                "function": FUNCTION_CHOICE,
                "allowed_tools": refused("give the tools that are allowed alone"),
                "custom": refused("give functions"),
            },
        ),
    ),
)

SPEECH: tuple[Field, ...] = (
    required("model", NAME, "a name of /v1/models"),
    field("max_tokens", integer(1), "tokens of an answer at most; else the context is the limit"),
    field("temperature", number(0, 2), "0: always the best token; 1 where neither it nor the archive says"),
    field("top_p", number(0, 1, above=True)),
    field("top_k", integer(0, TOKEN), "Hearth's own: choose among the k best; 0: all"),
    field("min_p", number(0, 1), "Hearth's own: least probability beside that of the best"),
    field("typical_p", number(0, 1, above=True), "Hearth's own: locally typical sampling"),
    field("repetition_penalty", number(1e-6, 1e6), "Hearth's own: Hugging Face's penalty; 1: none"),
    field("presence_penalty", number(-2, 2)),
    field("frequency_penalty", number(-2, 2)),
    field("penalty_window", integer(0, TOKEN), "Hearth's own: penalties look at so many tokens; 0: all"),
    field("logit_bias", _biases(), "added to the logits of tokens, by id"),
    field("seed", _seed(), "the same seed gives the same text"),
    field("stop", _one_or_many(text(1), MOST_STOPS), "end before one of these"),
    field("ignore_eos", boolean(), "Hearth's own: go on at the model's own end"),
    field("n", integer(1, MOST_CHOICES), "answers to each prompt"),
    field("stream", boolean()),
    field("stream_options", record((
        field("include_usage", boolean()), ignored("include_obfuscation", boolean()),
    ), StreamOptions)),
    field("adapter", _adapter(), "Hearth's own: a LoRA adapter of the archive, {name, scale} or its name"),
    field("regex", _made(text(1), Regex), "Hearth's own: the answer matches this regular expression"),
    field("grammar", _made(text(1), Ebnf), "Hearth's own: the answer follows this grammar (Lark or GBNF)"),
    ignored("user", text()),
)  # fmt: skip

CHAT: tuple[Field, ...] = (
    required("messages", CONVERSATION),
    *SPEECH,
    field("max_completion_tokens", integer(1), "as max_tokens, which it overrides"),
    field("logprobs", boolean()),
    field("top_logprobs", integer(0, MOST_TOP), "needs logprobs"),
    field("response_format", RESPONSE_FORMAT),
    field("tools", listing(TOOL, 0, 128)),
    field("tool_choice", TOOL_CHOICE),
    field("parallel_tool_calls", boolean()),
    field("chat_template_kwargs", mapping(), "Hearth's own: further names that the chat template reads"),
    ignored("metadata", mapping(text())),
    ignored("store", boolean()),
    ignored("service_tier", text()),
    ignored("safety_identifier", text()),
    ignored("prompt_cache_key", text(), "prompts are always cached"),
    ignored("prompt_cache_retention", text()),
    ignored("reasoning_effort", text()),
    ignored("verbosity", text()),
    ignored("prediction", any_value(), "a hint that is not needed"),
    ignored("modalities", listing(word("text"), 1)),
    field("audio", refused("answers are text")),
    field("web_search_options", refused("this server does not search")),
    field("moderation", refused("this server does not moderate")),
    field("functions", refused("use tools")),
    field("function_call", refused("use tool_choice")),
)  # fmt: skip

COMPLETION: tuple[Field, ...] = (
    required("prompt", _inputs(), "a text, an array of token ids, or several of either"),
    *SPEECH,
    field("echo", boolean(), "the prompt's text comes before the answer's; not with logprobs"),
    field("logprobs", integer(0, 5)),
    field("best_of", integer(1, MOST_CHOICES), "of so many answers the n with the best mean log probability"),
    field("suffix", refused("models continue a text at its end")),
)  # fmt: skip

EMBEDDING: tuple[Field, ...] = (
    required("model", NAME, "a name of /v1/models"),
    required("input", _inputs(), "a text, an array of token ids, or several of either"),
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
    if request.top_logprobs is not None and not request.logprobs:
        conflict("top_logprobs", "logprobs must be true for top_logprobs")
    _check_speech(request)
    _check_forms(request, ("response_format", "regex", "grammar"))
    _check_tools(request)
    return request


def read_completion(body: Mapping[str, Any]) -> CompletionRequest:
    """Refusal 400 names the field that is wrong, or the two that contradict each other."""
    request: CompletionRequest = COMPLETION_KIND.read(body, "")
    _check_speech(request)
    _check_forms(request, ("regex", "grammar"))
    if request.echo and request.logprobs is not None:
        conflict("echo", "logprobs of prompts are not given: echo or logprobs, not both")
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


def conflict(parameter: str, message: str) -> None:
    """Refuse fields that contradict each other."""
    raise Refusal(400, message, parameter=parameter, code="invalid_value")


def _check_speech(request: Speech) -> None:
    if request.stream_options is not None and not request.stream:
        conflict("stream_options", "stream must be true for stream_options")


def _check_forms(request: Speech, names: Sequence[str]) -> None:
    given = [name for name in names if getattr(request, name) is not None]
    if len(given) > 1:
        conflict(given[1], f"{' and '.join(given)}: an answer has one form")


def _check_tools(request: ChatRequest) -> None:
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
    if any((request.response_format, request.regex, request.grammar)):
        conflict("tool_choice", "a tool must be called: the answer cannot have another form too")
