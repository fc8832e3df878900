"""What several commands make of arguments: how much to check, prompts, token ids."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Literal

from hearth.schemas.errors import InputError, UsageError

if TYPE_CHECKING:
    from hearth.runtime.generation.writing import Full
    from hearth.runtime.model import Prompt


def checked(check: str) -> Literal["structure", "full"]:
    """How much of the archive to verify."""
    match check:
        case "structure" | "full":
            return check
    raise UsageError("arguments.check", f"--check {check}", expected="structure or full")


def read_full(name: str) -> Full:
    """What happens at the end of the context."""
    from hearth.runtime.generation.writing import Full

    if name not in [each.value for each in Full]:
        raise UsageError("arguments.full", f"--full {name}", expected="slide, stop or error")
    return Full(name)


def read_prompt(text: str | None, *, chat: bool, system: str | None, ids: bool) -> Prompt:
    """The prompt in the form that `generate` takes."""
    if ids and chat:
        raise UsageError("arguments.prompt", "--ids with --chat", expected="one of the two")
    text = given_or_read(text)
    if ids:
        return parse_ids(text)
    if not chat:
        return text
    user = {"role": "user", "content": text}
    return [user] if system is None else [{"role": "system", "content": system}, user]


def given_or_read(text: str | None) -> str:
    """The argument, or all of standard input where it is absent or a dash."""
    return _standard_input() if text is None or text == "-" else text


def parse_ids(text: str) -> list[int]:
    """'1, 2 3' -> [1, 2, 3]"""
    try:
        return [int(word) for word in text.replace(",", " ").split()]
    except ValueError as error:
        raise InputError(
            "input.token_type", f"the prompt is not token ids: {error}", expected="numbers"
        ) from None


def _standard_input() -> str:
    """All of stdin but the newline that ends it."""
    if sys.stdin is None or sys.stdin.isatty():
        raise UsageError(
            "arguments.prompt",
            "there is no prompt",
            expected="one as an argument, or on standard input",
        )
    data = sys.stdin.buffer.read()
    try:
        return data.decode().removesuffix("\n")
    except UnicodeDecodeError as error:
        raise InputError(
            "input.text", f"standard input is not UTF-8 at byte {error.start}", expected="UTF-8"
        ) from None
