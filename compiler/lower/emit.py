"""Emission: the ops of an entry in order -> commands with numbered values, then with planned offsets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from hearth.compiler.ir.ops import Cache, Constant, KVWrite, Op, Position, Slice, Tokens, tensor
from hearth.compiler.ir.rewrite import order
from hearth.compiler.ir.types import CacheType, Dim
from hearth.compiler.lower.blocks import round_up
from hearth.compiler.lower.kv import half_of
from hearth.compiler.lower.layouts import ALIGN
from hearth.compiler.lower.plan import Plan, plan
from hearth.compiler.lower.select import (
    RULES,
    Codes,
    Packed,
    Part,
    Plain,
    Read,
    Result,
    Scales,
    Selection,
    weight_of,
)
from hearth.compiler.lower.targets import Target
from hearth.compiler.lower.weights import WeightTable
from hearth.schemas.dtypes import DType
from hearth.schemas.kv_layout import KVLayout, Span
from hearth.schemas.program import Command, Entry, Operand, Region, Rows

RowCount = int | Rows


def q8_stride(k: int) -> int:
    """Bytes of one quantised activation row (docs/layouts.md)."""
    columns = round_up(k, 128)
    return round_up(columns + columns // 8 + 4, ALIGN)


@dataclass(frozen=True)
class IoPlace:
    """The io region, the same for every entry: tokens, then logits[max rows, V]."""

    max_rows: int
    vocab: int

    @property
    def logits(self) -> int:
        return round_up(4 * self.max_rows, ALIGN)

    @property
    def nbytes(self) -> int:
        return self.logits + 4 * self.max_rows * self.vocab


@dataclass(frozen=True)
class Emitted:
    """An entry and the plan of its arena."""

    entry: Entry
    plan: Plan


@dataclass
class Emitter:
    """Walks one entry. Arena offsets are relative to their buffer until the plan places it."""

    target: Target
    weights: WeightTable
    kv: KVLayout
    io: IoPlace
    max_rows: Mapping[Rows, int]
    places: dict[Op, Operand] = field(default_factory=dict)
    states: dict[Op, tuple[int, int]] = field(default_factory=dict)  # values of codes and scales
    sizes: dict[int, int] = field(default_factory=dict)
    inputs: list[int] = field(default_factory=list)
    commands: list[Command] = field(default_factory=list)
    values: int = 0

    def run(self, outputs: tuple[Op, ...]) -> Emitted:
        """The entry of a graph's outputs: the logits, then the caches written."""
        logits = outputs[0]
        for op in order(outputs):
            self.visit(op, into_logits=op is logits)
        final = self.places[logits]
        if final.region is not Region.IO:
            raise ValueError("the logits must be rows computed last, not a view or an input")
        tokens = next(place for op, place in self.places.items() if isinstance(op, Tokens))
        planned = plan(self.commands, self.sizes)
        commands = tuple(_placed(command, planned.offsets) for command in self.commands)
        inputs = tuple(self.inputs)
        entry = Entry(commands, tokens, final, inputs, self.max_rows, planned.nbytes)
        return Emitted(entry, planned)

    def visit(self, op: Op, into_logits: bool) -> None:
        match op:
            case Constant() | Position():
                pass
            case Tokens():
                nbytes = 4 * self.most(_rows(op))
                self.places[op] = Operand(Region.IO, 0, nbytes, 4, self.new_value(given=True))
            case Cache():
                self.states[op] = (self.new_value(given=True), self.new_value(given=True))
            case Slice():
                self.places[op] = self.view(op)
            case _:
                self.emit(op, RULES[type(op)](op, self.target.layouts), into_logits)

    def emit(self, op: Op, selection: Selection, into_logits: bool) -> None:
        """Number the result, bind the parts, append the command."""
        if isinstance(op, KVWrite):
            self.states[op] = (self.new_value(), self.new_value())
            rows = _rows(op.x)
        else:
            self.places[op] = self.result(op, into_logits)
            rows = _rows(op)
        operands = tuple(self.bind(op, part) for part in selection.parts)
        self.commands.append(
            Command(selection.contract, rows, operands, selection.ints, selection.floats)
        )

    def bind(self, op: Op, part: Part) -> Operand | None:
        match part:
            case None:
                return None
            case Read(source):
                return self.places[source]
            case Result():
                return self.places[op]
            case Packed(source, paired):
                layout = self.target.layouts[tensor(source).dtype]
                tensor_ = self.weights.place(weight_of(source), layout, paired)
                return Operand(Region.WEIGHTS, tensor_.offset, tensor_.nbytes)
            case Plain(source):
                tensor_ = self.weights.place(weight_of(source), None)
                return Operand(Region.WEIGHTS, tensor_.offset, tensor_.nbytes)
            case Codes(source):
                return self.state(half_of(self.kv, _cache(source)).codes, self.states[source][0])
            case Scales(source):
                return self.state(half_of(self.kv, _cache(source)).scales, self.states[source][1])

    def state(self, span: Span | None, value: int) -> Operand | None:
        return None if span is None else Operand(Region.KV, span.offset, span.nbytes, 0, value)

    def result(self, op: Op, into_logits: bool) -> Operand:
        """A new value for the rows of an op: in the arena, or the logits in io."""
        rows, columns = self.most(_rows(op)), tensor(op).shape[1]
        if not isinstance(columns, int):
            raise TypeError(f"{type(op).__name__} has unknown columns")
        if into_logits:
            nbytes, stride = 4 * rows * columns, 4 * columns
            return Operand(Region.IO, self.io.logits, nbytes, stride, self.new_value())
        if tensor(op).dtype is DType.Q8:
            stride = q8_stride(columns)
            nbytes = rows * stride
        else:
            stride = round_up(4 * columns, ALIGN)
            nbytes = (rows - 1) * stride + 4 * columns
        value = self.new_value()
        self.sizes[value] = nbytes
        return Operand(Region.ARENA, 0, nbytes, stride, value)

    def view(self, op: Slice) -> Operand:
        """Columns of another buffer: the same value, further right."""
        base = self.places[op.x]
        nbytes = (self.most(_rows(op)) - 1) * base.stride + 4 * (op.stop - op.start)
        return replace(base, offset=base.offset + 4 * op.start, nbytes=nbytes)

    def most(self, rows: RowCount) -> int:
        return self.max_rows[rows] if isinstance(rows, Rows) else rows

    def new_value(self, given: bool = False) -> int:
        value, self.values = self.values, self.values + 1
        if given:
            self.inputs.append(value)
        return value


def _rows(op: Op) -> RowCount:
    rows = tensor(op).shape[0]
    return Rows(rows.value) if isinstance(rows, Dim) else rows


def _cache(op: Op) -> CacheType:
    if not isinstance(op.type, CacheType):
        raise TypeError(f"{type(op).__name__} is no cache")
    return op.type


def _placed(command: Command, offsets: Mapping[int, int]) -> Command:
    def place(operand: Operand | None) -> Operand | None:
        if operand is None or operand.region is not Region.ARENA:
            return operand
        return replace(operand, offset=operand.offset + offsets[operand.value])

    return replace(command, operands=tuple(place(operand) for operand in command.operands))
