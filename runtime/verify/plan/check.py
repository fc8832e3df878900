"""The plan checker: replays a program over CONTRACTS and refuses what must not run, knowing nothing of its making.

| code | fault |
| --- | --- |
| op.unknown, op.arity, op.ints, op.value | not a contract, or not its operands, integers or their ranges |
| rows.bound, rows.mismatch | rows beyond the entry's maximum; rows that are not the rows defined |
| operand.missing, operand.unexpected | an operand that must, or must not, be there |
| region | an operand in a region its role does not allow |
| bounds, align, extent, stride | outside its region; on a wrong boundary; not the bytes its integers say |
| value, redefined, undefined, kind | numbering; two definitions; use before definition; another type |
| view | columns outside the buffer they are a view of |
| clobbered, aliased | bytes last written by another value; an output over an operand of the same command |
| state.unwritten, state.mismatch | cache read before written; halves of different layers or forms |
| weights.overlap | two weights that share bytes |
| io | a port outside io, or an output that was made elsewhere; two ports of one name |
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from hearth.runtime.verify.plan.at import At
from hearth.runtime.verify.plan.attributes import fault, presence, weight_form
from hearth.runtime.verify.plan.caches import check_read, check_together, written
from hearth.runtime.verify.plan.memory import Definition, Memory, WeightReads
from hearth.runtime.verify.plan.operands import (
    WRITTEN,
    Bound,
    check_apart,
    check_flat,
    check_port,
    check_region,
    check_rows,
)
from hearth.runtime.verify.plan.shapes import SHAPES, Matrix, PlanError
from hearth.schemas.commands import BY_NAME, Kind, Role
from hearth.schemas.program import Command, Entry, Program, Region, Rows


def check(program: Program) -> None:
    """Raises PlanError at the first fault."""
    weights = WeightReads()
    for name, entry in program.entries.items():
        _Replay(program, entry, name, weights).run()
    for where, what in weights.overlaps():
        raise PlanError("weights.overlap", where, what)


@dataclass
class _Replay:
    """One entry, command by command, and what its bytes hold then."""

    program: Program
    entry: Entry
    name: str
    weights: WeightReads
    memory: Memory = field(default_factory=Memory)

    def run(self) -> None:
        self.start(At(self.program, self.entry, self.name))
        for index, command in enumerate(self.entry.commands):
            self.step(At(self.program, self.entry, self.name, index, command), command)
        self.finish(At(self.program, self.entry, self.name))

    def start(self, at: At) -> None:
        """The inputs, and the numbers of the cache as the call finds it."""
        entry = self.entry
        for symbol in Rows:
            at.need(entry.max_rows.get(symbol, 0) > 0, "rows.bound", f"no maximum of {symbol}")
        fewer = entry.max_rows[Rows.R] <= entry.max_rows[Rows.T]
        at.need(fewer, "rows.bound", "R is larger than T")
        at.need(len(set(entry.given)) == len(entry.given), "value", "given twice")
        at.need(min(entry.given, default=0) >= 0, "value", "given without a number")
        names = [port.name for port in (*entry.inputs, *entry.outputs)]
        at.need(len(set(names)) == len(names), "io", "two ports of one name")
        for port in entry.inputs:
            check_port(at, port)
            place = port.operand
            at.need(place.value in entry.given, "value", f"{port.name} is not given")
            at.need(not self.memory.holders(place), "clobbered", f"{port.name} lies on another")
            kind = Kind.F32 if port.columns else Kind.TOKENS
            made = Definition(place, kind, at.counted(port.rows), port.columns or 1, at.index)
            self.memory.write(place, made)

    def finish(self, at: At) -> None:
        """Every output holds what the last command that wrote it left."""
        for port in self.entry.outputs:
            check_port(at, port)
            made = self.memory.defined.get(port.operand.value)
            if made is None or made.origin < 0:
                raise at.fail("undefined", f"{port.name}, value {port.operand.value}")
            at.need(made.place == port.operand, "io", f"{port.name} was defined elsewhere")
            at.need(made.kind is Kind.F32, "kind", f"{port.name} is {made.kind}")
            at.need(made.columns == port.columns, "extent", f"columns of {port.name}")
            at.need(self.memory.intact(port.operand), "clobbered", port.name)
            same = made.rows == at.counted(port.rows)
            at.need(same, "rows.mismatch", f"rows of {port.name}")

    def step(self, at: At, command: Command) -> None:
        bounds = list(_bound(at, command))
        for each in bounds:
            check_region(at, each)
            if each.spec.role is not Role.OUT:
                self.reads(at, each)
        check_apart(at, bounds)
        check_together(at, self.memory, bounds)
        for each in bounds:
            if each.spec.role in WRITTEN:
                self.writes(at, each)

    def reads(self, at: At, bound: Bound) -> None:
        spec, operand, shape = bound.spec, bound.operand, bound.shape
        if spec.role in (Role.STATE_READ, Role.STATE_WRITE):
            check_flat(at, bound)
            if spec.role is Role.STATE_READ:
                check_read(at, self.memory, bound)
        elif operand.region is Region.WEIGHTS:
            check_flat(at, bound)
            form = weight_form(at.ints) if Kind.PACKED in spec.kinds else (Kind.F32,)
            clash = self.weights.read(operand, form, f"{self.name}[{at.index}] {spec.name}")
            at.need(not clash, "weights.overlap", f"{spec.name} {clash}")
        elif isinstance(shape, Matrix):
            self.matrix(at, bound, shape)

    def matrix(self, at: At, bound: Bound, shape: Matrix) -> None:
        """Rows of an earlier result, or columns of them."""
        name, operand = bound.name, bound.operand
        made = self.memory.defined.get(operand.value)
        if made is None:
            raise at.fail("undefined", f"{name} reads value {operand.value}")
        at.need(made.kind in bound.spec.kinds, "kind", f"{name} is {made.kind}")
        at.need(made.rows == at.rows(shape), "rows.mismatch", name)
        at.need(operand.region is made.place.region, "region", name)
        at.need(operand.stride == made.place.stride, "stride", name)
        first = operand.offset - made.place.offset
        if made.kind is Kind.F32:
            fits = first >= 0 and first + 4 * shape.columns <= 4 * made.columns
            at.need(fits, "view", f"{name}: {shape.columns} columns at byte {first}")
        else:
            fits = first == 0 and shape.columns == made.columns
            at.need(fits, "view", f"{name}: not the whole of a {made.kind}")
        check_rows(at, bound, shape, made.kind)
        at.need(self.memory.intact(operand), "clobbered", f"{name}, value {operand.value}")

    def writes(self, at: At, bound: Bound) -> None:
        operand, shape = bound.operand, bound.shape
        fresh = operand.value not in self.memory.defined and operand.value not in self.entry.given
        at.need(fresh, "redefined", f"{bound.name} gives value {operand.value} again")
        (kind,) = bound.spec.kinds
        if isinstance(shape, Matrix):
            check_rows(at, bound, shape, kind)
            made = Definition(operand, kind, at.rows(shape), shape.columns, at.index)
        else:
            made = written(at, self.memory, bound)
        self.memory.write(operand, made)


def _bound(at: At, command: Command) -> Iterator[Bound]:
    """The operands that are there, of a command that has its contract's form."""
    contract = BY_NAME.get(command.op)
    if contract is None:
        raise at.fail("op.unknown", repr(command.op))
    wrong = fault(contract, command)
    if wrong is not None:
        raise at.fail(*wrong)
    at.most(command.rows)
    shapes = SHAPES[command.op](at.ints)
    pairs = list(zip(contract.operands, command.operands, strict=True))
    for spec, operand in pairs:
        wrong = presence(spec, operand, shapes[spec.name])
        if wrong is not None:
            raise at.fail(*wrong)
    for spec, operand in pairs:
        if operand is not None:
            yield Bound(spec, operand, shapes[spec.name])
