"""Emission: the ops of an entry in order -> commands with numbered values, then with planned offsets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from hearth.compiler.ir.ops import (
    Cache,
    Constant,
    Input,
    KVWrite,
    Op,
    Position,
    Slice,
    Tokens,
    tensor,
)
from hearth.compiler.ir.rewrite import order
from hearth.compiler.ir.types import CacheType, Dim
from hearth.compiler.lower.blocks import ALIGN, round_up
from hearth.compiler.lower.kv import half_of
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
from hearth.schemas.program import Command, Entry, Operand, Port, Region, Rows

RowCount = int | Rows


def q8_stride(k: int) -> int:
    """Bytes of one quantised activation row (docs/layouts.md)."""
    columns = round_up(k, 128)
    return round_up(columns + columns // 8 + 4, ALIGN)


@dataclass(frozen=True)
class Emitted:
    """An entry, the plan of its arena, and how far its ports reach in io."""

    entry: Entry
    plan: Plan
    io_nbytes: int


@dataclass
class Emitter:
    """Walks one entry. Arena offsets are relative to their buffer until the plan places it.

    `io` counts the bytes of the ports placed so far; entries run one at a time, so each starts at zero.
    """

    target: Target
    weights: WeightTable
    kv: KVLayout
    max_rows: Mapping[Rows, int]
    io: int = 0
    places: dict[Op, Operand] = field(default_factory=dict)
    states: dict[Op, tuple[int, int]] = field(default_factory=dict)  # values of codes and scales
    sizes: dict[int, int] = field(default_factory=dict)
    ports: dict[str, Port] = field(default_factory=dict)
    given: list[int] = field(default_factory=list)
    commands: list[Command] = field(default_factory=list)
    values: int = 0

    def run(self, outputs: tuple[Op, ...], names: tuple[str, ...]) -> Emitted:
        """The entry of a graph's outputs: the matrices that `names` name, then the caches written."""
        results = outputs[: len(names)]
        for op in order(outputs):
            self.visit(op, is_result=op in results)
        ports = tuple(self.output(name, op) for name, op in zip(names, results, strict=True))
        planned = plan(self.commands, self.sizes)
        commands = tuple(_placed(command, planned.offsets) for command in self.commands)
        inputs = tuple(self.ports.values())
        entry = Entry(commands, inputs, ports, tuple(self.given), self.max_rows, planned.nbytes)
        return Emitted(entry, planned, self.io)

    def output(self, name: str, op: Op) -> Port:
        """The port of a result."""
        place = self.places[op]
        if place.region is not Region.IO or place.value in self.given:
            raise ValueError(f"{name} must be rows computed last, not a view or an input")
        return Port(name, _rows(op), _columns(op), place)

    def visit(self, op: Op, is_result: bool) -> None:
        match op:
            case Constant() | Position():
                pass
            case Tokens():
                self.places[op] = self.input(op, op.port, 0)
            case Input():
                self.places[op] = self.input(op, op.port, op.columns)
            case Cache():
                self.states[op] = (self.new_value(given=True), self.new_value(given=True))
            case Slice():
                self.places[op] = self.view(op)
            case _:
                self.emit(op, RULES[type(op)](op, self.target.layouts), is_result)

    def input(self, op: Op, name: str, columns: int) -> Operand:
        """The place of a port; ops that read the same port share it."""
        port = self.ports.get(name)
        if port is None:
            operand = self.take_io(_rows(op), 4 * max(columns, 1), given=True)
            port = self.ports[name] = Port(name, _rows(op), columns, operand)
        if (port.rows, port.columns) != (_rows(op), columns):
            raise ValueError(f"the port {name} is read as [{_rows(op)}, {columns}] and otherwise")
        return port.operand

    def take_io(self, rows: RowCount, width: int, given: bool = False) -> Operand:
        """The next bytes of io, for rows of `width` bytes."""
        nbytes, offset = self.most(rows) * width, self.io
        self.io = offset + round_up(nbytes, ALIGN)
        return Operand(Region.IO, offset, nbytes, width, self.new_value(given))

    def emit(self, op: Op, selection: Selection, is_result: bool) -> None:
        """Number the result, bind the parts, append the command."""
        if isinstance(op, KVWrite):
            self.states[op] = (self.new_value(), self.new_value())
            rows = _rows(op.x)
        else:
            self.places[op] = self.result(op, is_result)
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

    def result(self, op: Op, is_result: bool) -> Operand:
        """A new value for the rows of an op: in the arena, or a port in io."""
        rows, columns = self.most(_rows(op)), _columns(op)
        quantised = tensor(op).dtype is DType.Q8
        if is_result and not quantised:
            return self.take_io(_rows(op), 4 * columns)
        if quantised:
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
            self.given.append(value)
        return value


def _rows(op: Op) -> RowCount:
    rows = tensor(op).shape[0]
    return Rows(rows.value) if isinstance(rows, Dim) else rows


def _columns(op: Op) -> int:
    columns = tensor(op).shape[1]
    if not isinstance(columns, int):
        raise TypeError(f"{type(op).__name__} has unknown columns")
    return columns


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
