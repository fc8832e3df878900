"""What an operation of a template costs, said before it is done: sizes, widths, and searches that go back and forth."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, MappingView, Sequence
from typing import Any, cast

from jinja2.exceptions import SecurityError
from jinja2.utils import Namespace

MOST_SIZE = 1 << 22  # of one value: its characters, and ITEM for each item of a list
MOST_BITS = 1 << 16  # of an integer
MOST_WIDTH = 1000  # of a column or an indent; digits to round to
MOST_STEPS = 1 << 28  # of a search that looks at all of a text again for each character of another
ITEM = 16

# A width of three digits, or one that is an argument or a field itself, of `%` (after a key, which may hold neither
# brackets nor another `%`) and of `format`. Both take as long as the pattern is.
WIDE = (
    re.compile(r"%(\([^()%]*\)|(?!\())[^a-zA-Z%]*(\d{3}|\*)|%\([^()%]*[(%]"),
    re.compile(r"\{[^{}:]*(\{|:[^{}]*(\{|\d{3}))"),
)
# Python looks for a text from the right, and for characters to strip, by comparing all with all.
SEARCHES = frozenset(("lstrip", "rfind", "rindex", "rpartition", "rsplit", "rstrip", "strip"))

WORDS, LINE_ENDS = re.compile(r"\S+"), re.compile(r"[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]")


class Excess(SecurityError):
    """A template does more than a template may."""


def size_of(value: Any) -> int:
    """Of a value without what is in it; of a number its digits."""
    match value:
        case str() | bytes():
            return len(value)
        case list() | tuple() | dict() | MappingView():
            return ITEM * len(value)
        case int():
            return 1 + value.bit_length() // 3
    return 1


def measured(value: Any) -> int:
    """The size of all of it, what is in it twice counted twice; Excess where that is more than one value may be."""
    size, stack = 0, [value]
    while stack:
        each = stack.pop()
        size += size_of(each)
        check_size(size)
        stack += _within(each)
    return size


def _within(value: Any) -> Iterable[Any]:
    """What is written out, or compared, with a value; of a namespace and the views of a dict, too."""
    match value:
        case Mapping():
            return (*value.keys(), *value.values())
        case list() | tuple() | MappingView():
            return cast(Iterable[Any], value)
        case Namespace():
            names: Mapping[str, Any] = object.__getattribute__(value, "_Namespace__attrs")
            return names.values()
    return ()


def checked(value: Any) -> Any:
    """The value, which is no larger than one may be (lists in lists, all of it)."""
    measured(value)
    return value


def check_size(size: int) -> None:
    """Excess where a value would be too large."""
    if size > MOST_SIZE:
        raise Excess(f"it makes a text of more than {MOST_SIZE} characters, or a list as large")


def check_operation(operator: str, left: Any, right: Any) -> None:
    """Of `+`, `*`, `**` and `%`."""
    match operator, left, right:
        case "%", str(text), _:
            check_fields(text, right.values() if isinstance(right, Mapping) else (right,))
        case "*", int(), int():
            _check_bits(left.bit_length() + right.bit_length())
        case "*", int(times), value:
            check_size(size_of(value) * times)
        case "*", value, int(times):
            check_size(size_of(value) * times)
        case "**", int(), int():
            _check_bits(left.bit_length() * right)
        case "+", _, _:
            check_size(size_of(left) + size_of(right))


def _check_bits(bits: int) -> None:
    if bits > MOST_BITS:
        raise Excess(f"it makes an integer of more than {MOST_BITS} bits")


def check_fields(pattern: str, values: Iterable[Any]) -> None:
    """Of `%` and of `format`: fields of modest widths, each of which may be the largest of the values."""
    if any(wide.search(pattern) for wide in WIDE):
        raise Excess("a format has a width of more than 99, or one that is computed")
    fields = pattern.count("%") + pattern.count("{")
    check_size(len(pattern) + fields * max(map(measured, values), default=0))


def check_method(text: str, name: str, args: Sequence[Any]) -> None:
    """Of a method of a text."""
    texts = [each for each in args if isinstance(each, str)]
    if name == "replace" and len(texts) > 1:
        _check_replaced(text, *texts[:2])
    elif name in ("split", "rsplit"):
        most = next((each for each in args if isinstance(each, int) and each >= 0), len(text))
        check_size(ITEM * min(most, text.count(texts[0]) if texts else _found(WORDS, text)))
    elif name == "splitlines":
        check_size(ITEM * _found(LINE_ENDS, text))
    if name in SEARCHES:
        _check_search(text, *texts[:1])


def _found(part: re.Pattern[str], text: str) -> int:
    """How many of them a text has, more or less."""
    return sum(1 for _ in part.finditer(text)) if len(text) > MOST_SIZE // ITEM else len(text)


def _check_replaced(text: str, old: str, new: str) -> None:
    times = text.count(old) if len(new) > len(old) else 0
    check_size(len(text) + times * (len(new) - len(old)))


def _check_search(text: str, wanted: str = "") -> None:
    if len(text) * len(wanted) > MOST_STEPS:
        raise Excess(f"it compares {len(text)} characters with {len(wanted)} others, each with all")


def check_parts(value: Any) -> None:
    """Of a list of the characters, where it is a text."""
    if isinstance(value, str):
        check_size(ITEM * len(value))


def check_width(width: Any) -> None:
    """Of a number, or of a text that stands for its length."""
    if (isinstance(width, int) and width > MOST_WIDTH) or (
        isinstance(width, str) and len(width) > MOST_WIDTH
    ):
        raise Excess(f"it asks for a width of more than {MOST_WIDTH}")


def _check_replace(_context: Any, text: Any, old: Any, new: Any, count: Any = None) -> None:
    _check_replaced(str(text), str(old), str(new))


def _check_format(pattern: Any, *args: Any, **kwargs: Any) -> None:
    check_fields(str(pattern), (*args, *kwargs.values()))


def _check_trim(text: Any, chars: Any = None) -> None:
    _check_search(str(text), str(chars or ""))


def _check_indent(text: Any, width: Any = 4, first: Any = False, blank: Any = False) -> None:
    lines = str(text).splitlines()
    check_size(sum(map(len, lines)) + (len(lines) + 1) * (1 + _columns(width)))


def _check_json(
    value: Any,
    ensure_ascii: Any = False,
    indent: Any = None,
    separators: Any = None,
    sort_keys: Any = False,
) -> None:
    """What stands between the values: separators, and an indent for each level that they are in."""
    step, between = _columns(indent), measured(separators)
    size, stack = 0, [(value, 1)]
    while stack:
        each, level = stack.pop()
        size += between + level * step
        check_size(size)
        if isinstance(each, Mapping):
            stack += ((item, level + 1) for item in each.values())
        elif isinstance(each, list | tuple):
            stack += ((item, level + 1) for item in each)


def _columns(width: Any) -> int:
    return len(width) if isinstance(width, str) else width if isinstance(width, int) else 0


# By a filter's name, called as it is.
FILTERS: Mapping[str, Callable[..., None]] = {
    "format": _check_format,
    "indent": _check_indent,
    "replace": _check_replace,
    "tojson": _check_json,
    "trim": _check_trim,
}
