"""A jinja sandbox whose templates end: within seconds, and without filling the memory.

jinja's own keeps a template from Python's internals, but not from loops without end, from `'x' * 10**10` or from
doubling a text forty times. Here every turn of a loop and every call looks at the clock; what makes a value larger
than those it is made of says its size before, what compares values looks at all of them first (template_costs.py);
and all that is made is counted. Filters and methods whose work their
arguments do not bound (urlize, striptags, ...) are left out: no published chat template uses one.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import wraps
from types import GeneratorType
from typing import Any

from jinja2 import Environment, nodes
from jinja2.filters import make_attrgetter
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

from hearth.runtime.text.template_costs import (
    FILTERS,
    Excess,
    check_fields,
    check_method,
    check_operation,
    check_parts,
    check_size,
    check_width,
    checked,
    size_of,
)

MOST_SECONDS = 2.0  # of the thread's own time; published templates take milliseconds
MOST_MADE = 1 << 28  # of all values together

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
APART = frozenset(
    ("batch", "groupby", "list", "slice", "sort", "unique")
)  # a text falls into its characters
COMPARING = frozenset(("dictsort", "groupby", "max", "min", "sort", "unique"))
MEASURED_TESTS = frozenset((
    "!=", "<", "<=", "==", ">", ">=", "eq", "equalto", "ge", "greaterthan", "gt", "in", "le", "lessthan", "lower",
    "lt", "ne", "upper",
))  # fmt: skip
GIVEN = (Context, Environment, nodes.EvalContext)  # what jinja puts before what is filtered


class BoundedEnvironment(ImmutableSandboxedEnvironment):
    """Templates are made by `bounded` and rendered within `clock`; by several threads, if need be."""

    intercepted_binops = frozenset(("+", "*", "**", "%"))

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._left = threading.local()  # of one rendering: when it ends, what may still be made
        usual = self.filters
        tests: Any = self.tests  # jinja types them too narrowly
        self.tests = {name: self._watched(name, test) for name, test in tests.items()}
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

    def same(self, value: Any) -> Any:
        """A value that is compared or looked up, which takes as long as it is large: `call` has looked at all of it."""
        return value

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
        """`text.format`, whose fields must be modest."""
        usual = super().wrap_str_format(value)
        if usual is None:
            return None

        def wrapped(*args: Any, **kwargs: Any) -> str:
            check_fields(value.__self__, (*args, *kwargs.values()))
            return str(self._made(usual(*args, **kwargs)))

        return wrapped

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:
        """Any call that a template writes."""
        __self._look(args, kwargs)
        match getattr(__obj, "__self__", None), getattr(__obj, "__name__", ""), args:
            case str(text), "join", (items,):
                return __self._join(items, text)
            case str(text), str(name), _:
                check_method(text, name, (*args, *kwargs.values()))
        return __self._made(super().call(__context, __obj, *args, **kwargs))

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """`+`, `*`, `**` and `%`."""
        check_operation(operator, left, right)
        return self._made(super().call_binop(context, operator, left, right))

    def _bound(self, name: str, usual: Callable[..., Any]) -> Callable[..., Any]:
        """A filter; before what it filters may come what jinja gives it (a context, say)."""

        @wraps(usual)
        def bound(*args: Any, **kwargs: Any) -> Any:
            if name in COMPARING:
                args = tuple(list(v) if isinstance(v, GeneratorType) else v for v in args)
            whole = name in COMPARING | TEXT_FILTERS
            self._look(args if whole else args[1 + isinstance(args[0], GIVEN) :], kwargs)
            if name in NARROW:
                for width in (*args[1:], *kwargs.values()):
                    check_width(width)
            if name in APART:
                for value in args:
                    check_parts(value)
            if name in FILTERS:
                FILTERS[name](*args, **kwargs)
            return self._made(usual(*args, **kwargs))

        return bound

    def _watched(self, name: str, usual: Callable[..., Any]) -> Callable[..., Any]:
        """A test."""

        @wraps(usual)
        def watched(*args: Any, **kwargs: Any) -> Any:
            self._look(args if name in MEASURED_TESTS else (), kwargs)
            return usual(*args, **kwargs)

        return watched

    def _look(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """At the clock, and at all of what something is done with."""
        self.tick()
        for value in (*args, *kwargs.values()):
            checked(value)

    def _join(self, value: Iterable[Any], d: str = "", attribute: str | int | None = None) -> str:
        if attribute is not None:
            value = map(make_attrgetter(self, attribute), value)
        return self._concat(map(self._text, value), str(d))

    def _text(self, value: Any) -> str:
        return value if isinstance(value, str) else str(self._made(str(checked(value))))

    def _concat(self, parts: Iterable[str], between: str = "") -> str:
        parts = list(parts)
        check_size(sum(map(len, parts)) + len(between) * len(parts))
        return str(self._made(between.join(parts)))

    def _made(self, value: Any) -> Any:
        """A value that has been made, counted."""
        self._left.made -= size_of(value)
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
            node.arg = _looked_at(node.arg)
            return node
        bounds = (node.arg.start, node.arg.stop, node.arg.step)
        return _environment("part", node.node, *(each or nodes.Const(None) for each in bounds))

    def visit_Compare(self, node: nodes.Compare) -> nodes.Node:
        """What is compared with constants is soon found to be another."""
        self.generic_visit(node)
        compared = [node.expr, *(operand.expr for operand in node.ops)]
        if len(compared) == 2 and any(map(_constant, compared)):
            return node
        node.expr = _looked_at(node.expr)
        for operand in node.ops:
            operand.expr = _looked_at(operand.expr)
        return node

    def visit_Pair(self, node: nodes.Pair) -> nodes.Node:
        self.generic_visit(node)
        node.key = _looked_at(node.key)
        return node

    def _ticking(self, node: nodes.For | nodes.Macro) -> nodes.Node:
        node.body.insert(0, nodes.ExprStmt(_environment("tick")).set_lineno(node.lineno))
        return node


def _constant(value: nodes.Expr) -> bool:
    listed = isinstance(value, nodes.List | nodes.Tuple) and all(map(_constant, value.items))
    return listed or isinstance(value, nodes.Const)


def _looked_at(value: nodes.Expr) -> nodes.Expr:
    return value if isinstance(value, nodes.Const) else _environment("same", value)


def _environment(method: str, *args: nodes.Expr) -> nodes.Call:
    """A call of one of the environment's methods."""
    return nodes.Call(nodes.EnvironmentAttribute(method), list(args), [], None, None)
