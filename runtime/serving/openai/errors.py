"""What went wrong, in OpenAI's words: the body of an error, its code and the parameter that it is about."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any

from hearth.runtime.serving.refusals import Refusal, refusal
from hearth.schemas.errors import InputError

# What OpenAI calls errors that its clients look for.
CODES: Mapping[str, str] = MappingProxyType(
    {
        "serve.model_unknown": "model_not_found",
        "input.context_full": "context_length_exceeded",
        "resource.queue_full": "rate_limit_exceeded",
    }
)
# The parameter that a family of error codes is about; "arguments." names it itself.
PARAMETERS: Mapping[str, str] = MappingProxyType(
    {
        "serve.model_unknown": "model",
        "arguments.kind": "model",
        "input.tools": "tools",
        "grammar.schema": "response_format",
        "grammar.regex": "regex",
        "grammar.ebnf": "grammar",
    }
)


def error_body(error: Refusal) -> dict[str, Any]:
    """OpenAI's form of an error."""
    return {
        "error": {
            "message": error.message,
            "type": error.kind,
            "param": error.parameter or _parameter(error.code or ""),
            "code": CODES.get(error.code or "", error.code),
        }
    }


@contextmanager
def about(parameter: str) -> Iterator[None]:
    """What is wrong with the input itself (too long, ids out of range) is said of this parameter."""
    try:
        yield
    except InputError as error:
        if error.code in PARAMETERS or not error.code.startswith("input."):
            raise
        raise refusal(error, parameter) from None


def _parameter(code: str) -> str | None:
    family, _, name = code.partition(".")
    return PARAMETERS.get(code) or (name if family == "arguments" else None)
