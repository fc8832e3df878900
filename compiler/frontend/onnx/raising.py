"""The engine: raises each data value by the first rule that fits its node, on demand; keeps why the others do not."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol

from hearth.compiler.frontend.onnx.constants import Constants
from hearth.compiler.frontend.onnx.layers import Layers
from hearth.compiler.frontend.onnx.model import Node, OnnxModel
from hearth.compiler.frontend.onnx.ports import Ports
from hearth.compiler.frontend.onnx.probes import Probes
from hearth.compiler.frontend.onnx.sessions import reads
from hearth.compiler.frontend.onnx.values import (
    Blocked,
    Ends,
    Mismatch,
    Reason,
    Scores,
    Stored,
    Unsuited,
    Value,
    View,
)
from hearth.compiler.ir.ops import Constant, IRError, Position

MOST_NESTED = 150  # values raised one inside the other, before their turn

Result = Value | tuple[Value | None, ...]
"""What a rule gives: the value of the node's first output, or of each output (None: not raised)."""

UNREADABLE = (IRError, ValueError, TypeError, KeyError, IndexError, OverflowError, ArithmeticError)
"""What odd attributes and operands cause in a rule that trusted them: the rule does not apply."""


class Rule(Protocol):
    """Raises a node, or raises Mismatch to say why not."""

    __name__: str

    def __call__(self, node: Node, raising: Raising, /) -> Result: ...


@dataclass(eq=False)
class Raising:
    """What rules read. `view(name)` raises the value first, if its turn has not come."""

    model: OnnxModel
    ports: Ports
    probes: Probes
    constants: Constants
    layers: Layers
    data: frozenset[str]
    rules: Callable[[Node], Sequence[Rule]]
    values: dict[str, Value]
    notes: list[str] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)  # of tables that are shorter than the context
    reasons: dict[Node, tuple[Reason, ...]] = field(default_factory=dict)
    tables: list[tuple[Constant, Constant]] = field(default_factory=list)  # RoPE's cos and sin
    appended: dict[tuple[str, int], Stored] = field(default_factory=dict)  # by past and offset
    stacks: dict[str, tuple[View, ...]] = field(
        default_factory=dict
    )  # outputs of fused nodes that hand several caches on
    _nested: int = 0

    @property
    def position(self) -> Position:
        """The position of the call's first token."""
        return self.layers.position

    @cached_property
    def order(self) -> Mapping[Node, int]:
        """The place of each node."""
        return {node: index for index, node in enumerate(self.model.nodes)}

    def raise_all(self, eager: Callable[[Node], bool], outputs: Iterable[str]) -> None:
        """Every eager node in order, then what the outputs need."""
        for node in self.model.nodes:
            if eager(node) and any(name in self.data for name in node.outputs):
                self.attempt(node)
        for name in outputs:
            node_of = self.model.producers.get(name)
            if name in self.data and name not in self.values and node_of is not None:
                self.attempt(node_of)

    def attempt(self, node: Node) -> None:
        """Try the rules of a node, once."""
        if node in self.reasons or any(name in self.values for name in node.outputs):
            return
        if self._nested >= MOST_NESTED:
            raise Blocked("too many nodes deep")
        self._nested += 1
        self.reasons[node] = ()  # a value that needs itself is not raised
        try:
            reasons = self._try(node)
        finally:
            self._nested -= 1
        if reasons is None:
            del self.reasons[node]
        else:
            self.reasons[node] = reasons

    def _try(self, node: Node) -> tuple[Reason, ...] | None:
        reasons: list[Reason] = []
        rules = self.rules(node)
        for rule in rules:
            try:
                result = rule(node, self)
            except Mismatch as mismatch:
                blocked, unsuited = (isinstance(mismatch, kind) for kind in (Blocked, Unsuited))
                reasons.append(Reason(node.title, rule.__name__, str(mismatch), blocked, unsuited))
                if isinstance(mismatch, Ends):
                    self.ends.append(mismatch.longest)
            except UNREADABLE as error:
                reasons.append(Reason(node.title, rule.__name__, f"is malformed: {error}"))
            else:
                made = result if isinstance(result, tuple) else (result,)
                for name, value in zip(node.outputs, made, strict=False):
                    if name and value is not None:
                        self.values[name] = value
                return None
        if not rules:
            reasons.append(Reason(node.title, "rules", "no rule is about this operator"))
        return tuple(reasons)

    def is_data(self, name: str) -> bool:
        return name in self.data

    def value(self, name: str) -> Value:
        """A data value; Blocked if it cannot be raised."""
        if name not in self.values:
            if name not in self.data:
                raise Mismatch(f"{name!r} is no data")
            node = self.model.producers.get(name)
            if node is not None:
                self.attempt(node)
        if name not in self.values:
            raise Blocked(f"{name!r} was not raised")
        return self.values[name]

    def view(self, name: str) -> View:
        """A data value that must be a view of a matrix."""
        value = self.value(name)
        if isinstance(value, Scores):
            raise Mismatch(f"reads attention scores {name!r}")
        return value

    def vector(self, name: str, columns: int) -> Constant:
        """A constant [columns]."""
        found = None if self.is_data(name) else self.constants.vector(name, columns)
        if found is None:
            raise Mismatch(f"{name!r} is no vector of {columns}")
        return found

    def scalar(self, name: str) -> float:
        """A constant of one element."""
        found = None if self.is_data(name) else self.constants.scalar(name)
        if found is None:
            raise Mismatch(f"{name!r} is no constant number")
        return found

    def causes(self, outputs: Iterable[str]) -> tuple[Reason, ...]:
        """Why the outputs were not raised: the reasons of the first nodes in the way."""
        wanted = self._unraised_before(outputs)
        found: list[Reason] = []
        later: list[Reason] = []
        for node in (node for node in self.model.nodes if node in wanted):
            reasons = self.reasons.get(node, ())
            real = [each for each in reasons if not each.unsuited and not each.blocked]
            if real or self._is_ready(node):
                found += real or [each for each in reasons if not each.blocked] or reasons
            else:
                later += reasons
        return tuple(found or later)

    def _is_ready(self, node: Node) -> bool:
        """Whether all data that a node reads was raised."""
        return all(name in self.values for name in reads(node) if name in self.data)

    def _unraised_before(self, outputs: Iterable[str]) -> set[Node]:
        nodes: set[Node] = set()
        stack = [name for name in outputs if name not in self.values]
        while stack:
            node = self.model.producers.get(stack.pop())
            if node is not None and node not in nodes:
                nodes.add(node)
                stack += [
                    name for name in reads(node) if name in self.data and name not in self.values
                ]
        return nodes


def attribute(node: Node, name: str, default: object) -> object:
    """An attribute, or the operator's default."""
    return node.attributes.get(name, default)


def integer(node: Node, name: str, default: int) -> int:
    found = node.attributes.get(name, default)
    if not isinstance(found, int):
        raise Mismatch(f"attribute {name} is {found!r}")
    return found


def number(node: Node, name: str, default: float) -> float:
    found = node.attributes.get(name, default)
    if not isinstance(found, int | float):
        raise Mismatch(f"attribute {name} is {found!r}")
    return float(found)


def integers(node: Node, name: str) -> tuple[int, ...] | None:
    found = node.attributes.get(name)
    return None if found is None else tuple(int(item) for item in found)  # type: ignore[union-attr]


def optional_input(node: Node, index: int) -> str | None:
    """The name of an input, None where it is absent."""
    return node.inputs[index] or None if index < len(node.inputs) else None
