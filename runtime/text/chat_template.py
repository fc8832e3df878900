"""Messages to a prompt by the checkpoint's jinja template, in a sandbox with what transformers gives templates.

The template comes with the archive, so it is not trusted: it sees plain data only, and the sandbox keeps it
from changing that, from reaching Python's internals, and from going on without end (template_bounds.py).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, NoReturn

import jinja2
import jinja2.nodes
import jinja2.parser
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, loopcontrols

from hearth.runtime.text.template_bounds import BoundedEnvironment
from hearth.runtime.text.template_costs import check_width
from hearth.schemas.errors import ArchiveError, HearthError, InputError

Message = Mapping[str, Any]  # {"role": "user", "content": "..."} and what else the template reads
Now = Callable[[], datetime]
MOST_SOURCE = 1 << 20  # characters: published templates have 17,000 at most
MOST_SAID = 1000  # characters of an error of a template that are passed on
# What Python's own parser and compiler raise on expressions and blocks inside each other too deep.
OF_DEEP_NESTS = (SyntaxError, RecursionError, MemoryError, ValueError)


class Refusal(jinja2.TemplateError):
    """Raised by a template's own `raise_exception`."""


class GenerationBlock(Extension):
    """`{% generation %} ... {% endgeneration %}` marks the assistant's text for training: passed through."""

    tags = {"generation"}  # noqa: RUF012

    def parse(self, parser: jinja2.parser.Parser) -> list[jinja2.nodes.Node]:
        """The block's statements, in a scope of their own (as the call block of transformers gives them)."""
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return [jinja2.nodes.Scope(body).set_lineno(line)]


class ChatTemplate:
    """A parsed template. `special` are the named special tokens it may write, `now` its clock."""

    def __init__(self, source: str, special: Mapping[str, str], now: Now = datetime.now) -> None:
        self._special = dict(special)
        self._environment = _environment(now)
        if len(source) > MOST_SOURCE:
            raise _unreadable(f"it has {len(source)} characters, more than {MOST_SOURCE}")
        try:
            self._template = self._environment.bounded(source)
        except (jinja2.TemplateError, *OF_DEEP_NESTS) as error:
            raise _unreadable(f"it cannot be parsed: {_text(error)}") from None

    def render(
        self,
        messages: Sequence[Message],
        *,
        add_generation_prompt: bool = True,
        tools: Sequence[Mapping[str, Any]] | None = None,
        variables: Mapping[str, Any] | None = None,
    ) -> str:
        """The prompt's text; encode it without adding special tokens, for it holds its own.

        `variables` are further names that some templates read (`enable_thinking`, `date_string`, ...).
        """
        names: dict[str, Any] = {
            **self._special,
            "messages": plain_messages(messages),
            "tools": None if tools is None else _plain(tools),
            "documents": None,
            "add_generation_prompt": add_generation_prompt,
            **_plain(variables or {}),
        }
        try:
            with self._environment.clock():
                text: str = self._template.render(names)
        except Exception as error:  # whatever it is, the template raised it
            raise _failure(error) from None
        return text


def plain_messages(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """Messages as plain data, keys without a value dropped; each must say its role."""
    if not messages:
        raise InputError("input.messages", "there are no messages", expected="at least one")
    for index, message in enumerate(messages):
        if not isinstance(message, Mapping) or not isinstance(message.get("role"), str):
            raise InputError(
                "input.messages",
                f"message {index} is {message!r:.80}",
                expected='an object with a role, such as {"role": "user", "content": "..."}',
            )
    return [
        {str(key): _plain(value) for key, value in message.items() if value is not None}
        for message in messages
    ]


def _plain(value: Any) -> Any:
    """The same data rebuilt of exact JSON types; of anything else a template sees the type's name."""
    if value is None or type(value) in (bool, int, float, str):
        return value
    for kind in (str, int, float):
        if isinstance(value, kind):
            return kind(value)
    if isinstance(value, Mapping):
        return {_plain(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return f"<{type(value).__name__}>"


def _environment(now: Now) -> BoundedEnvironment:
    environment = BoundedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[GenerationBlock, loopcontrols]
    )
    environment.add_filter("tojson", _tojson)
    environment.globals["raise_exception"] = _raise

    def strftime_now(pattern: str) -> str:
        check_width(pattern)  # a field may be 256 times as wide as all of it
        return now().strftime(pattern)

    environment.globals["strftime_now"] = strftime_now
    return environment


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """JSON as it is, where jinja's own filter would escape it for HTML."""
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def _raise(message: str) -> NoReturn:
    raise Refusal(message)


def _unreadable(found: str) -> ArchiveError:
    return ArchiveError(
        "archive.chat_template",
        f"the chat template is of no use: {found}",
        remedy="give a plain prompt, or compile again with a corrected template",
    )


def _failure(error: Exception) -> HearthError:
    match error:
        case Refusal():
            found = f"the chat template refuses these messages: {str(error.message)[:MOST_SAID]}"
            return InputError("input.chat_refused", found, remedy="change the messages")
        case SecurityError():
            found = f"the chat template does what is not allowed: {error.message}"
            return ArchiveError("archive.chat_template", found, remedy="do not trust this archive")
    found = f"the chat template fails on these messages: {_text(error)}"
    remedy = "give the roles and contents this model's template reads, or a plain prompt"
    return InputError("input.chat_failed", found, remedy=remedy)


def _text(error: Exception) -> str:
    line = getattr(error, "lineno", None)
    place = f" (line {line})" if line else ""
    return f"{type(error).__name__}: {str(error)[:MOST_SAID]}{place}"
