"""A wish to llguidance's grammar, or an InputError that says what is wrong with it and where.

Asked of a schema is more than the library's words give: the keyword at fault and its place, found by compiling
parts of the schema (`places.py`).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from hearth.runtime.grammar.closed import closed
from hearth.runtime.grammar.places import Fault, find_fault, levels, subschemas
from hearth.runtime.grammar.wishes import (
    Ebnf,
    GrammarWish,
    JsonObject,
    JsonSchema,
    Lark,
    Regex,
    schema_of,
)
from hearth.runtime.text.foreign import foreign
from hearth.schemas.errors import InputError, MissingError

if TYPE_CHECKING:
    from llguidance import LLMatcher

MOST_REMAINDERS = 100_000  # of all `multipleOf` of a schema
# Ranges of integers that end near -2^63 have llguidance 1.9 call itself until the process dies.
LEAST = -(1 << 62)
NEGATIVE = re.compile(r"-\d+(?:\.\d+)?(?:[eE]\+?\d+)?")  # as JSON writes a number
# Each level is a call in llguidance, and the stack of a thread ends after a thousand.
MOST_LEVELS = 400
MOST_RULES = 1000  # and brackets, which take less
MOST_TEXT = 1 << 20  # characters of a wish: more is no schema that somebody wrote
# Between the tokens of JSON: nothing, a space, or a new line and its indent. Endless white space would be valid
# JSON too, and small models love it.
WHITESPACE = r" |\n[ \t]{0,20}"


def matcher_class() -> type[LLMatcher]:
    """llguidance's matcher; MissingError `missing.llguidance` where it is not installed."""
    try:
        from llguidance import LLMatcher
    except ImportError:
        raise MissingError(
            "missing.llguidance",
            "answers of a given form need llguidance, which is not installed",
            remedy='pip install "hearth[grammar]"',
        ) from None
    return LLMatcher


def prepare(wish: GrammarWish) -> str:
    """The grammar as llguidance reads it, checked."""
    matcher_class()
    _check_length(wish)
    return PREPARE[type(wish)](wish)


def _check_length(wish: GrammarWish) -> None:
    text = "" if isinstance(wish, JsonObject) else wish.text
    if len(text) > MOST_TEXT:
        raise InputError(
            "grammar.too_complex",
            f"a grammar of {len(text)} characters",
            expected=f"at most {MOST_TEXT}",
        )


def _json_object(_: JsonObject) -> str:
    return _of_schema({"type": "object"})


def _json_schema(wish: JsonSchema) -> str:
    schema = schema_of(wish)
    schema = {} if schema is True else schema
    check_schema(schema)
    return _of_schema(closed(schema) if wish.closed else schema)


def check_schema(schema: Any, where: str = "") -> None:
    """InputError `grammar.schema` with the place (after `where`) of what cannot be followed."""
    matcher_class()
    with foreign(_unreadable):
        deep = _deep_references(schema)  # which no single place is to blame for
    problem = deep or schema_problem(schema)
    if problem:
        fault = Fault("#", "") if deep else find_fault(schema, schema_problem, problem)
        raise InputError(
            "grammar.schema",
            f"the schema cannot be followed: {problem}",
            expected="keywords that docs/constrained.md lists",
            where=f"{where} {fault.pointer}".strip(),
            remedy=f"change or remove {fault.keyword!r} there" if fault.keyword else "simplify it",
        )


def _regex(wish: Regex) -> str:
    grammar = matcher_class().grammar_from_regex(wish.text)
    problem = _problem(grammar)
    if problem:
        raise InputError(
            "grammar.regex",
            f"the regular expression cannot be followed: {problem}",
            expected="the syntax of Rust's regex, without look-around and back-references",
        )
    return grammar


def _ebnf(wish: Ebnf) -> str:
    from llguidance.gbnf_to_lark import any_to_lark

    try:
        lark = any_to_lark(wish.text)
        problem = _low_text(lark) or _many_rules(lark) or _problem(lark)
    except Exception as error:  # the library raises plain Exceptions
        lark, problem = "", _one_line(str(error))
    if problem:
        raise InputError(
            "grammar.ebnf",
            f"the grammar cannot be followed: {problem}",
            expected="Lark with a rule start, or GBNF with a rule root",
        )
    return matcher_class().grammar_from_lark(lark)


def _lark(wish: Lark) -> str:
    return matcher_class().grammar_from_lark(wish.text)


PREPARE: dict[type[GrammarWish], Callable[[Any], str]] = {
    JsonObject: _json_object,
    JsonSchema: _json_schema,
    Regex: _regex,
    Ebnf: _ebnf,
    Lark: _lark,
}


def schema_problem(schema: Any) -> str:
    """Why a schema cannot be followed; empty where it can."""
    if schema is False:
        return "nothing is valid"
    with foreign(_unreadable):
        problem = (
            _repeated_keys(schema)
            or _large_multiples(schema)
            or _low_numbers(schema)
            or _deep_references(schema)
            or _problem(_of_schema(schema))
        )
    return problem.partition(" while processing ")[0]  # the way to it by references


def _unreadable(words: str) -> InputError:
    """Of a schema nested too deep, or with a number or a text that JSON does not have."""
    return InputError(
        "grammar.schema",
        f"the schema cannot be read: {words}",
        expected="JSON of finite numbers, whole characters and less than 100 levels",
    )


def _of_schema(schema: Any) -> str:
    return matcher_class().grammar_from_json_schema(
        json.dumps(schema),
        overrides={"whitespace_pattern": WHITESPACE, "lenient": False, "coerce_one_of": False},
    )


def _repeated_keys(schema: Any) -> str:
    """A key that `properties` does not list may come twice, so a least number of such keys cannot be promised."""
    for _, part in subschemas(schema):
        least, required = part.get("minProperties"), part.get("required")
        if isinstance(least, int) and least > max(1, len(required or ())):
            return f"minProperties {least}, above 1 and above the number of required properties"
    return ""


def _large_multiples(schema: Any) -> str:
    """A million remainders take 8 s and 400 MB to prepare."""
    count = sum(_remainders(part.get("multipleOf")) for _, part in subschemas(schema))
    return f"multipleOf beyond {MOST_REMAINDERS}" if count > MOST_REMAINDERS else ""


def _remainders(multiple: Any) -> int:
    """Those of the integer without its decimal point, each of which is a state."""
    if type(multiple) not in (int, float) or not math.isfinite(multiple):
        return 0
    return int("".join(map(str, Decimal(str(multiple)).as_tuple().digits)))


def _low_numbers(schema: Any) -> str:
    """Wherever they are: what may hold a value holds any key."""
    low = any(number < LEAST for number in _numbers(schema))
    return f"a number below {LEAST}" if low else ""


def _numbers(value: Any) -> Iterator[float]:
    match value:
        case dict() | list():
            for inner in value.values() if isinstance(value, dict) else value:
                yield from _numbers(inner)
        case int() | float():
            yield value


def _low_text(grammar: str) -> str:
    """The same of a grammar, which may hold schemas."""
    numbers = NEGATIVE.findall(grammar) if "%json" in grammar else ()
    return f"a number below {LEAST}" if any(float(each) < LEAST for each in numbers) else ""


def _deep_references(schema: Any) -> str:
    """As if all that references lead to lay one inside the other, which is the most it can be."""
    found = levels(schema)
    targets = {part["$ref"] for _, part in subschemas(schema) if isinstance(part.get("$ref"), str)}
    depth = found[""] + sum(found.get(each.removeprefix("#"), found[""]) for each in targets)
    return f"references that may lead {depth} levels deep" if depth > MOST_LEVELS else ""


def _many_rules(grammar: str) -> str:
    """Rules that lead to others, and the groups in them."""
    count = sum(map(grammar.count, ":([{"))
    return f"{count} rules and brackets, more than {MOST_RULES}" if count > MOST_RULES else ""


def _problem(grammar: str) -> str:
    is_error, messages = matcher_class().validate_grammar_with_warnings(grammar)
    return _one_line(messages[0]) if is_error else ""


def _one_line(message: str) -> str:
    return " ".join(message.split())[:300]
