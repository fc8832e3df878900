"""Calls as Qwen3-Coder writes them: elements for the function and each argument, values as plain text."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hearth.runtime.tools.style import Calls, Mark, NewId, all_calls, tool_call
from hearth.runtime.tools.tool import Tool
from hearth.schemas.errors import InputError

FUNCTION = re.compile(r"\s*<function=([^<>\n]+)>(.*)</function>\s*", re.DOTALL)
PARAMETER = re.compile(r"\s*<parameter=([^<>\n]+)>\n?(.*?)\n?</parameter>", re.DOTALL)
BOOLEANS = {"true": True, "false": False}
PLAIN = (  # what the arguments' schema may say
    "type", "properties", "required", "additionalProperties", "$defs", "definitions", "$schema", "title", "description",
)  # fmt: skip
UNKEPT = (
    "pattern",
    "format",
    "allOf",
    "anyOf",
    "oneOf",
    "not",
    "if",
    "$ref",
)  # of strings written as they are


@dataclass(frozen=True)
class XmlCalls:
    """`<function=NAME>` with a `<parameter=KEY>` for each argument: strings as they are, other values as JSON."""

    listed: bool = False
    marks: tuple[str, ...] = ()
    begins: None = None

    def read(self, body: str, tools: Mapping[str, Tool], new_id: NewId) -> Calls:
        """What a parameter's text means is for the tool's schema to say; without one it is a string."""
        found = FUNCTION.fullmatch(body)
        if found is None:
            return None
        name, inside = found.groups()
        schema = tools[name].parameters if name in tools else {}
        arguments, position = {}, 0
        while pair := PARAMETER.match(inside, position):
            arguments[pair[1]] = _value(pair[2], property_of(schema, pair[1]))
            position = pair.end()
        return (
            None if inside[position:].strip() else all_calls([tool_call(new_id(), name, arguments)])
        )

    def breaks_off(self, body: str) -> bool:
        """Inside a parameter."""
        return body.count("<parameter=") > body.count("</parameter>")

    def rules(self, number: int, tool: Tool, mark: Mark) -> list[str]:
        """Arguments come in the order of the schema, which says nothing but what they are."""
        _check_plain(tool)
        head, end = json.dumps(f"<function={tool.name}>\n"), json.dumps("</function>")
        properties = tool.parameters.get("properties") or {}
        needed = tool.parameters.get("required") or ()
        names = [
            f"value_{number}_{i}" + "?" * (key not in needed) for i, key in enumerate(properties)
        ]
        rules = [f"call_{number}: {' '.join((head, *names, end))}"]
        for i, key in enumerate(properties):
            rules += _value_rules(f"value_{number}_{i}", key, tool)
        return rules


def _check_plain(tool: Tool) -> None:
    for word in tool.parameters:
        if word not in PLAIN:
            raise _unkept(tool, f"{word!r} of all arguments together", f"remove {word!r}")


def _unkept(tool: Tool, what: str, remedy: str) -> InputError:
    return InputError(
        "grammar.schema",
        f"this model writes arguments one by one, strings as they are: {what} cannot be followed",
        expected="an object with properties",
        where=f"function {tool.name!r}: parameters",
        remedy=remedy,
    )


def property_of(schema: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """The schema of an argument, with what it may refer to; of an unknown one that of a string."""
    properties = schema.get("properties")
    known = properties.get(key) if isinstance(properties, Mapping) else None
    if not isinstance(known, Mapping):
        return {"type": "string"} if known is None else {}
    definitions = {name: schema[name] for name in ("$defs", "definitions") if name in schema}
    return {**definitions, **known}


def _value(text: str, schema: Mapping[str, Any]) -> Any:
    if _is_string(schema):
        return text
    if text.strip().lower() in BOOLEANS:  # templates write Python's words
        return BOOLEANS[text.strip().lower()]
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _is_string(schema: Mapping[str, Any]) -> bool:
    words = schema.get("enum")
    if isinstance(words, Sequence) and not schema.get("type"):
        return all(isinstance(word, str) for word in words)
    return schema.get("type") == "string"


def _value_rules(rule: str, key: str, tool: Tool) -> Iterator[str]:
    """`<parameter=KEY>`, its value, the end of it."""
    schema = property_of(tool.parameters, key)
    begin, end = json.dumps(f"<parameter={key}>\n"), json.dumps("\n</parameter>\n")
    if not _is_string(schema):
        yield f"{rule}: {begin} {rule}_json {end}"
        yield f"{rule}_json: %json {json.dumps({**schema, 'x-guidance': {'whitespace_pattern': ' ?'}})}"
        return
    if "enum" in schema or "const" in schema:
        yield f"{rule}: {begin} ({' | '.join(map(json.dumps, _words(schema, key, tool)))}) {end}"
        return
    for word in UNKEPT:
        if word in schema:
            raise _unkept(tool, f"{word!r} of {key!r}", f"remove {word!r} there")
    yield f"{rule}: {begin} {rule}_text"
    least, most = schema.get("minLength", 0), schema.get("maxLength", "")
    if most != "" and most < least:
        raise _unkept(tool, f"{key!r} of {least} to {most} characters", "give other limits")
    yield f"{rule}_text[suffix={end}]: /(?s:.{{{least},{most}}})/"


def _words(schema: Mapping[str, Any], key: str, tool: Tool) -> list[str]:
    """The texts that a string may be: of what is listed no other value is one."""
    listed = schema.get("enum", [schema.get("const")])
    words = [word for word in listed if isinstance(word, str) and word == schema.get("const", word)]
    if not words:
        raise _unkept(tool, f"{key!r}, which no text can be,", "list texts for it")
    return words
