"""The bodies of Ollama's endpoints, read into types; what this server cannot do is refused by the field's name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hearth.runtime.serving.ollama.fields import Fields, refused
from hearth.runtime.serving.ollama.keep_alive import seconds_of
from hearth.runtime.serving.ollama.options import Options, read_options

MOST_TOP_LOGPROBS = 20

Format = str | Mapping[str, Any] | None  # "json", a JSON schema, or nothing


@dataclass(frozen=True)
class Common:
    """What /api/generate and /api/chat share. `keep_alive` is in seconds, None: as the server was told."""

    model: str
    stream: bool
    format: Format
    options: Options
    keep_alive: float | None
    logprobs: int | None  # how many alternatives beside each token's own; None: no probabilities
    truncate: bool  # a prompt too long is cut; else it is refused
    think: bool | None
    shift: bool | None  # a full context forgets its oldest tokens; None: as the server was told


@dataclass(frozen=True)
class Generate:
    """/api/generate: a text, or where `raw` is not set a message for the chat template."""

    common: Common
    prompt: str
    system: str
    raw: bool
    context: tuple[int, ...]


@dataclass(frozen=True)
class Chat:
    """/api/chat: messages and tools as the chat template reads them."""

    common: Common
    messages: tuple[Mapping[str, Any], ...]
    tools: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True)
class Embed:
    """/api/embed and /api/embeddings."""

    model: str
    texts: tuple[str, ...]
    truncate: bool
    dimensions: int | None
    keep_alive: float | None


def read_generate(body: Mapping[str, Any]) -> Generate:
    """Refuses suffix, template and images, and raw beside what only a template reads."""
    fields = Fields(body)
    request = Generate(
        common=_common(fields),
        prompt=fields.text("prompt") or "",
        system=fields.text("system") or "",
        raw=fields.flag("raw") or False,
        context=fields.integers("context") or (),
    )
    _refuse(fields, "suffix", "text cannot be inserted before a suffix")
    _refuse(fields, "template", "the chat template is the archive's own", "send raw: true")
    _refuse(fields, "images", "no archive reads images")
    if request.raw and (request.system or request.context):
        raise refused("raw", "is set beside system or context", "a whole prompt and nothing else")
    return request


def read_chat(body: Mapping[str, Any]) -> Chat:
    """Messages with a role and a text, tool calls or a tool's result; images are refused."""
    fields = Fields(body)
    messages = fields.objects("messages") or ()
    return Chat(
        common=_common(fields),
        messages=tuple(_message(index, message) for index, message in enumerate(messages)),
        tools=fields.objects("tools") or (),
    )


def read_embed(body: Mapping[str, Any]) -> Embed:
    """`input` is a text or several."""
    fields = Fields(body)
    dimensions = fields.integer("dimensions")
    if dimensions is not None and dimensions < 1:
        raise refused("dimensions", f"is {dimensions}", "at least 1")
    return Embed(
        model=read_model(fields),
        texts=fields.needed("input", fields.texts("input")),
        truncate=fields.flag("truncate") is not False,
        dimensions=dimensions,
        keep_alive=seconds_of(body.get("keep_alive")),
    )


def read_embeddings(body: Mapping[str, Any]) -> Embed:
    """The older form: one text, named `prompt`."""
    fields = Fields(body)
    text = fields.text("prompt") or ""
    return Embed(read_model(fields), (text,), True, None, seconds_of(body.get("keep_alive")))


def read_model(fields: Fields) -> str:
    """The model's name; `name` is the older field."""
    name = fields.text("model") or fields.text("name")
    if not name:
        raise refused("model", "is missing", "the name of a model, as /api/tags lists them")
    return name


def _common(fields: Fields) -> Common:
    return Common(
        model=read_model(fields),
        stream=fields.flag("stream") is not False,
        format=_format(fields),
        options=read_options(fields.inner("options")),
        keep_alive=seconds_of(fields.values.get("keep_alive")),
        logprobs=_logprobs(fields),
        truncate=fields.flag("truncate") is not False,
        think=_think(fields),
        shift=fields.flag("shift"),
    )


def _format(fields: Fields) -> Format:
    value = fields.values.get("format")
    if value is None or value == "":
        return None
    if value == "json" or isinstance(value, Mapping):
        return value  # type: ignore[no-any-return]
    raise refused("format", f"is {value!r:.60}", '"json" or a JSON schema')


def _logprobs(fields: Fields) -> int | None:
    top = fields.integer("top_logprobs") or 0
    if not 0 <= top <= MOST_TOP_LOGPROBS:
        raise refused("top_logprobs", f"is {top}", f"0 to {MOST_TOP_LOGPROBS}")
    return top if fields.flag("logprobs") else None


def _think(fields: Fields) -> bool | None:
    """A level ("low") is a wish to think; no archive's answers are parted into thoughts and text."""
    value = fields.values.get("think")
    if value is None or value is False:
        return value
    raise refused("think", f"is {value!r:.20}", "false", "thoughts stay in the text; leave it out")


def _message(index: int, message: Mapping[str, Any]) -> Mapping[str, Any]:
    fields = Fields(message, f"messages[{index}].")
    found: dict[str, Any] = {
        "role": fields.needed("role", fields.text("role")),
        "content": fields.text("content") or "",
    }
    _refuse(fields, "images", "no archive reads images")
    calls = fields.objects("tool_calls")
    if calls:
        found["tool_calls"] = [
            _call(f"{fields.place}tool_calls[{n}].", c) for n, c in enumerate(calls)
        ]
    name = fields.text("tool_name") or fields.text("name")
    if name:
        found["name"] = name
    return found


def _call(place: str, call: Mapping[str, Any]) -> Mapping[str, Any]:
    """In the form that templates of transformers read."""
    function = Fields(call, place).inner("function")
    name = function.needed("name", function.text("name"))
    arguments = dict(function.inner("arguments").values)
    return {"type": "function", "function": {"name": name, "arguments": arguments}}


def _refuse(fields: Fields, name: str, why: str, remedy: str = "leave it out") -> None:
    if fields.values.get(name):
        raise refused(fields.place + name, f"is not served: {why}", "no such field", remedy)
