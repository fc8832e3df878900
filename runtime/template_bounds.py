"""A jinja sandbox whose templates end: within seconds, and without filling the memory.

jinja's own keeps a template from Python's internals, but not from loops without end, from `'x' * 10**10` or from
doubling a text forty times. Here every turn of a loop and every call looks at the clock; what makes a value larger
than those it is made of says its size before; and all that is made is counted. Filters and methods whose work their
arguments do not bound (urlize, striptags, ...) are left out: no published chat template uses one.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import wraps
from typing import Any

from jinja2 import nodes
from jinja2.exceptions import SecurityError
from jinja2.filters import make_attrgetter
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

MOST_SECONDS = 2.0  # of the thread's own time; published templates take milliseconds
MOST_SIZE = 1 << 22  # of one value: its characters, and ITEM for each item of a list
MOST_MADE = 1 << 28  # of all values together
MOST_BITS = 1 << 16  # of an integer
MOST_WIDTH = 1000  # of a column or an indent; digits to round to
ITEM = 16

# Filters that may write out what they are given, and those that give parts of it back.
TEXT_FILTERS = frozenset((
    "capitalize", "e", "escape", "float", "forceescape", "format", "indent", "int", "lower", "replace", "round",
    "safe", "string", "title", "tojson", "trim", "truncate", "upper", "wordcount",
))  # fmt: skip
LIST_FILTERS = frozenset((
    "abs", "attr", "batch", "count", "d", "default", "dictsort", "first", "groupby", "items", "last", "length",
    "list", "map", "max", "min", "reject", "rejectattr", "reverse", "select", "selectattr", "slice", "sort",
    "unique",
))  # fmt: skip
NARROW = frozenset(("batch", "indent", "round", "slice", "tojson"))  # whose numbers are widths
TEXT_METHODS = frozenset((
    "capitalize", "casefold", "count", "endswith", "find", "format", "index", "isalnum", "isalpha", "isascii",
    "isdecimal", "isdigit", "isidentifier", "islower", "isnumeric", "isprintable", "isspace", "istitle",
    "isupper", "join", "lower", "lstrip", "partition", "removeprefix", "removesuffix", "replace", "rfind",
    "rindex", "rpartition", "rsplit", "rstrip", "split", "splitlines", "startswith", "strip", "swapcase",
    "title", "upper",
))  # fmt: skip
# A width of four digits, or one that is an argument or a field itself, of `%` and of `format`.
WIDE = (re.compile(r"%[^a-zA-Z%]*(\d{4}|\*)"), re.compile(r"\{[^{}]*(\{|:[^{}]*\d{4})"))


class Excess(SecurityError):
    """A template does more than a template may."""


class BoundedEnvironment(ImmutableSandboxedEnvironment):
    """Templates are made by `bounded` and rendered within `clock`; by several threads, if need be."""

    intercepted_binops = frozenset(("+", "*", "**", "%"))

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._left = threading.local()  # of one rendering: when it ends, what may still be made
        usual = self.filters
        self.filters = {"join": self._join}
        for name in TEXT_FILTERS | LIST_FILTERS:
            self.add_filter(name, usual[name])
        self.finalize = checked  # what `{{ ... }}` prints
        self.concat = self._concat  # type: ignore[method-assign]
        del self.globals["lipsum"]

    def bounded(self, source: str) -> Any:
        """The template, whose loops and macros look at the clock."""
        tree = _Watched().visit(self.parse(source))
        return self.from_string(tree.set_environment(self))

    def add_filter(self, name: str, work: Callable[..., Any]) -> None:
        """One of the filters, made otherwise."""
        self.filters[name] = self._bound(name, work)

    @contextmanager
    def clock(self) -> Iterator[None]:
        """One rendering."""
        self._left.until, self._left.made = time.thread_time() + MOST_SECONDS, MOST_MADE
        yield

    def tick(self) -> bool:
        """True, until the time is over."""
        if time.thread_time() > self._left.until:
            raise Excess(f"it takes more than {MOST_SECONDS:g} seconds")
        return True

    def texts(self, *parts: Any) -> str:
        """`a ~ b ~ c`."""
        return self._concat(map(self._text, parts))

    def part(self, value: Any, *bounds: Any) -> Any:
        """`value[a:b:c]`."""
        return self._made(value[slice(*bounds)])

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        """Of texts the methods above, of numbers and bytes none."""
        if isinstance(obj, str):
            return attr in TEXT_METHODS
        return not isinstance(obj, int | float | bytes) and super().is_safe_attribute(
            obj, attr, value
        )

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        """`text.format`, whose fields must be of a modest width."""
        wrapped = super().wrap_str_format(value)
        if wrapped is not None:
            _check_widths(value.__self__)
        return wrapped

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:
        """Any call that a template writes."""
        __self.tick()
        for value in (*args, *kwargs.values()):
            checked(value)
        match getattr(__obj, "__self__", None), getattr(__obj, "__name__", ""), args:
            case str(text), "join", (items,):
                return __self._join(items, text)
            case str(text), "replace", (str(old), str(new), *_):
                _check_replaced(text, old, new)
        return __self._made(super().call(__context, __obj, *args, **kwargs))

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """`+`, `*`, `**` and `%`."""
        _check_operation(operator, left, right)
        return self._made(super().call_binop(context, operator, left, right))

    def call_test(self, name: str, value: Any, *args: Any, **kwargs: Any) -> Any:
        """A test of each item (`select`)."""
        self.tick()
        return super().call_test(name, value, *args, **kwargs)

    def _bound(self, name: str, usual: Callable[..., Any]) -> Callable[..., Any]:
        """A filter; before what it filters may come what jinja gives it (a context, say)."""

        @wraps(usual)
        def bound(*args: Any, **kwargs: Any) -> Any:
            self.tick()
            if name in TEXT_FILTERS:
                for value in args:
                    checked(value)
            if name in NARROW:
                for width in (*args[1:], *kwargs.values()):
                    _check_width(width)
            if name == "replace":
                _check_replaced(*(str(value) for value in args[1:4]))
            if name == "format":
                _check_widths(str(args[0]))
            return self._made(usual(*args, **kwargs))

        return bound

    def _join(self, value: Iterable[Any], d: str = "", attribute: str | int | None = None) -> str:
        if attribute is not None:
            value = map(make_attrgetter(self, attribute), value)
        return self._concat(map(self._text, value), str(d))

    def _text(self, value: Any) -> str:
        return value if isinstance(value, str) else str(self._made(str(checked(value))))

    def _concat(self, parts: Iterable[str], between: str = "") -> str:
        parts = list(parts)
        _check_size(sum(map(len, parts)) + len(between) * len(parts))
        return str(self._made(between.join(parts)))

    def _made(self, value: Any) -> Any:
        """A value that has been made, counted."""
        self._left.made -= _size(value)
        if self._left.made < 0:
            raise Excess(f"it makes texts of more than {MOST_MADE} characters")
        return value


class _Watched(NodeTransformer):
    """Loops and macros begin with a tick; what jinja compiles to bare Python goes by the environment."""

    def visit_For(self, node: nodes.For) -> nodes.Node:
        self.generic_visit(node)
        if node.test is not None:
            node.test = nodes.And(_environment("tick"), node.test)
        return self._ticking(node)

    def visit_Macro(self, node: nodes.Macro) -> nodes.Node:
        self.generic_visit(node)
        return self._ticking(node)

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:
        self.generic_visit(node)
        return _environment("texts", *node.nodes)

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Node:
        self.generic_visit(node)
        if not isinstance(node.arg, nodes.Slice):
            return node
        bounds = (node.arg.start, node.arg.stop, node.arg.step)
        return _environment("part", node.node, *(each or nodes.Const(None) for each in bounds))

    def _ticking(self, node: nodes.For | nodes.Macro) -> nodes.Node:
        node.body.insert(0, nodes.ExprStmt(_environment("tick")).set_lineno(node.lineno))
        return node


def _environment(method: str, *args: nodes.Expr) -> nodes.Call:
    """A call of one of the environment's methods."""
    return nodes.Call(nodes.EnvironmentAttribute(method), list(args), [], None, None)


def _size(value: Any) -> int:
    if isinstance(value, str | bytes):
        return len(value)
    return ITEM * len(value) if isinstance(value, list | tuple | dict) else 1


def checked(value: Any) -> Any:
    """The value, all of which (lists in lists, what is in them twice counted twice) is no larger than one may be."""
    left, stack = MOST_SIZE, [value]
    while stack:
        each = stack.pop()
        left -= _size(each)
        if left < 0:
            _check_size(MOST_SIZE + 1)
        if isinstance(each, Mapping):
            stack += each.keys()
            stack += each.values()
        elif isinstance(each, list | tuple):
            stack += each
    return value


def _check_size(size: int) -> None:
    if size > MOST_SIZE:
        raise Excess(f"it makes a text of more than {MOST_SIZE} characters, or a list as large")


def _check_operation(operator: str, left: Any, right: Any) -> None:
    match operator, left, right:
        case "%", str(text), _:
            _check_widths(text)
            checked(right)
        case "*", int(), int():
            _check_bits(left.bit_length() + right.bit_length())
        case "*", int(times), value:
            _check_size(_size(value) * times)
        case "*", value, int(times):
            _check_size(_size(value) * times)
        case "**", int(), int():
            _check_bits(left.bit_length() * right)
        case "+", _, _:
            _check_size(_size(left) + _size(right))


def _check_bits(bits: int) -> None:
    if bits > MOST_BITS:
        raise Excess(f"it makes an integer of more than {MOST_BITS} bits")


def _check_replaced(text: str, old: str, new: str) -> None:
    times = text.count(old) if len(new) > len(old) else 0
    _check_size(len(text) + times * (len(new) - len(old)))


def _check_width(width: Any) -> None:
    if (isinstance(width, int) and width > MOST_WIDTH) or (
        isinstance(width, str) and len(width) > MOST_WIDTH
    ):
        raise Excess(f"it asks for a width of more than {MOST_WIDTH}")


def _check_widths(pattern: str) -> None:
    if any(wide.search(pattern) for wide in WIDE):
        raise Excess(f"a format has a width of more than {MOST_WIDTH}, or one that is computed")
