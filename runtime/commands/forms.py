"""The form that the command line asks of an answer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from hearth.runtime.commands.run_options import FormOptions
from hearth.runtime.grammar.wishes import Ebnf, GrammarWish, JsonObject, JsonSchema, Regex
from hearth.schemas.errors import UsageError, reason

# Field of FormOptions: the wish that its value makes.
WISHES: dict[str, Callable[[Any], GrammarWish]] = {
    "json_object": lambda _: JsonObject(),
    "json_schema": lambda path: JsonSchema(_read(path)),
    "regex": Regex,
    "grammar": lambda path: Ebnf(_read(path)),
}


def wish_of(options: FormOptions) -> GrammarWish | None:
    """What is asked for, if anything; UsageError `arguments.form` for several, or a file that cannot be read."""
    given = [name for name in WISHES if getattr(options, name) not in (None, False)]
    if len(given) > 1:
        names = " and ".join(f"--{name.replace('_', '-')}" for name in given)
        raise UsageError("arguments.form", f"{names}", expected="one of them at most")
    return WISHES[given[0]](getattr(options, given[0])) if given else None


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            "arguments.form", reason(error), expected="a file of UTF-8 text", where=str(path)
        ) from None
