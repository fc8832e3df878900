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

from collections.abc import Mapping
from dataclasses import dataclass, field

from hearth.runtime.verify.plan.attributes import fault, presence, weight_form
from hearth.runtime.verify.plan.memory import Definition, Memory, WeightReads, overlap
from hearth.runtime.verify.plan.shapes import (
    SHAPES,
    Flat,
    Matrix,
    PlanError,
    Shape,
    Table,
    up,
)
from hearth.schemas.commands import BY_NAME, Kind, KVKind, OperandSpec, Role
from hearth.schemas.program import Command, Entry, Operand, Port, Program, Region, Rows

REGIONS: Mapping[Role, tuple[Region, ...]] = {
    Role.IN: (Region.ARENA, Region.IO),
    Role.OUT: (Region.ARENA, Region.IO),
    Role.WEIGHT: (Region.WEIGHTS,),
    Role.STATE_READ: (Region.KV,),
    Role.STATE_WRITE: (Region.KV,),
}


def check(program: Program) -> None:
    """Raises PlanError at the first fault."""
    weights = WeightReads()
    for name, entry in program.entries.items():
        _Check(program, entry, name, weights).run()
    for where, what in weights.overlaps():
        raise PlanError("weights.overlap", where, what)


@dataclass
class _Check:
    program: Program
    entry: Entry
    name: str
    weights: WeightReads
    memory: Memory = field(default_factory=Memory)
    index: int = -1
    command: Command | None = None

    def run(self) -> None:
        self.start()
        for index, command in enumerate(self.entry.commands):
            self.index, self.command = index, command
            self.step(command)
        self.finish()

    def fail(self, code: str, what: str) -> PlanError:
        op = f" {self.command.op}" if self.command is not None else ""
        place = f"[{self.index}]{op}" if self.index >= 0 else ""
        return PlanError(code, f"{self.name}{place}", what)

    def need(self, condition: bool, code: str, what: str) -> None:
        if not condition:
            raise self.fail(code, what)

    def start(self) -> None:
        """The inputs, and the numbers of the cache as the call finds it."""
        entry = self.entry
        for symbol in Rows:
            self.need(entry.max_rows.get(symbol, 0) > 0, "rows.bound", f"no maximum of {symbol}")
        self.need(
            entry.max_rows[Rows.R] <= entry.max_rows[Rows.T], "rows.bound", "R is larger than T"
        )
        self.need(len(set(entry.given)) == len(entry.given), "value", "given twice")
        self.need(min(entry.given, default=0) >= 0, "value", "given without a number")
        names = [port.name for port in (*entry.inputs, *entry.outputs)]
        self.need(len(set(names)) == len(names), "io", "two ports of one name")
        for port in entry.inputs:
            self.port(port)
            place = port.operand
            self.need(place.value in entry.given, "value", f"{port.name} is not given")
            self.need(not self.memory.holders(place), "clobbered", f"{port.name} lies on another")
            kind = Kind.F32 if port.columns else Kind.TOKENS
            rows = self.counted(port.rows)
            self.memory.write(place, Definition(place, kind, rows, port.columns or 1, -1))

    def port(self, port: Port) -> None:
        """Rows without gaps in io."""
        place, width = port.operand, 4 * max(port.columns, 1)
        self.need(place.region is Region.IO, "io", f"{port.name} lies outside io")
        whole = place.stride == width and place.nbytes == self.most(port.rows) * width
        self.need(whole, "extent", port.name)
        self.placed(place, 64)

    def most(self, rows: int | Rows) -> int:
        """The largest count of rows; a fixed count is within T."""
        if isinstance(rows, Rows):
            return self.entry.max_rows[rows]
        self.need(1 <= rows <= self.entry.max_rows[Rows.T], "rows.bound", f"{rows} rows")
        return rows

    def finish(self) -> None:
        """Every output holds what the last command that wrote it left."""
        self.index, self.command = -1, None
        for port in self.entry.outputs:
            self.port(port)
            made = self.memory.defined.get(port.operand.value)
            if made is None or made.origin < 0:
                raise self.fail("undefined", f"{port.name}, value {port.operand.value}")
            self.need(made.place == port.operand, "io", f"{port.name} was defined elsewhere")
            self.need(made.kind is Kind.F32, "kind", f"{port.name} is {made.kind}")
            self.need(made.columns == port.columns, "extent", f"columns of {port.name}")
            self.need(self.memory.intact(port.operand), "clobbered", port.name)
            rows = self.counted(port.rows)
            self.need(made.rows == rows, "rows.mismatch", f"rows of {port.name}")

    def step(self, command: Command) -> None:
        contract = BY_NAME.get(command.op)
        if contract is None:
            raise self.fail("op.unknown", repr(command.op))
        wrong = fault(contract, command)
        if wrong is not None:
            raise self.fail(*wrong)
        self.most(command.rows)
        ints = dict(zip(contract.ints, command.ints, strict=True))
        shapes = SHAPES[command.op](ints)
        pairs = list(zip(contract.operands, command.operands, strict=True))
        for spec, operand in pairs:
            wrong = presence(spec, operand, shapes[spec.name])
            if wrong is not None:
                raise self.fail(*wrong)
        bound = [(spec, operand) for spec, operand in pairs if operand is not None]
        for spec, operand in bound:
            self.within(spec, operand)
            if spec.role is not Role.OUT:
                self.reads(spec, operand, shapes[spec.name], ints)
        self.no_alias(bound)
        for spec, operand in bound:
            if spec.role in (Role.OUT, Role.STATE_WRITE):
                self.writes(spec, operand, shapes[spec.name], ints)

    def within(self, spec: OperandSpec, operand: Operand) -> None:
        allowed = REGIONS[spec.role]
        if Kind.VECTOR in spec.kinds and spec.role is Role.IN:
            allowed = (*allowed, Region.WEIGHTS)
        self.need(operand.region in allowed, "region", f"{spec.name} in {operand.region.name}")
        weight = operand.region is Region.WEIGHTS
        self.need((operand.value < 0) == weight, "value", f"{spec.name} has {operand.value}")
        self.placed(operand, 64 if spec.role in (Role.OUT, Role.STATE_WRITE) else 4)

    def placed(self, operand: Operand, align: int) -> None:
        sizes = {
            Region.WEIGHTS: self.program.weights_nbytes,
            Region.ARENA: self.entry.arena_nbytes,
            Region.KV: self.program.kv_nbytes,
            Region.IO: self.program.io_nbytes,
        }
        end = operand.offset + operand.nbytes
        inside = operand.offset >= 0 and operand.nbytes > 0 and end <= sizes[operand.region]
        self.need(inside, "bounds", f"bytes {operand.offset}..{end} of {operand.region.name}")
        self.need(operand.offset % align == 0, "align", f"offset {operand.offset}")

    def reads(
        self, spec: OperandSpec, operand: Operand, shape: Shape, ints: Mapping[str, int]
    ) -> None:
        if spec.role in (Role.STATE_READ, Role.STATE_WRITE):
            self.flat(spec, operand, shape)
            if spec.role is Role.STATE_READ:
                self.state(spec, operand, ints)
        elif operand.region is Region.WEIGHTS:
            vector = Flat(4 * shape.columns, 4) if isinstance(shape, Matrix) else shape
            self.flat(spec, operand, vector)
            form = weight_form(ints) if Kind.PACKED in spec.kinds else (Kind.F32,)
            clash = self.weights.read(operand, form, f"{self.name}[{self.index}] {spec.name}")
            self.need(not clash, "weights.overlap", f"{spec.name} {clash}")
        elif isinstance(shape, Matrix):
            self.matrix(spec, operand, shape)

    def flat(self, spec: OperandSpec, operand: Operand, shape: Shape) -> None:
        """Bytes without rows."""
        self.need(operand.stride == 0, "stride", f"{spec.name} has no rows")
        if isinstance(shape, Flat):
            exact = operand.nbytes == shape.nbytes
            self.need(exact, "extent", f"{spec.name}: {operand.nbytes}, not {shape.nbytes}")
            self.need(operand.offset % shape.align == 0, "align", spec.name)
        elif isinstance(shape, Table):
            whole = operand.nbytes % (4 * shape.columns) == 0
            enough = operand.nbytes >= 4 * shape.columns * shape.positions
            self.need(whole and enough, "extent", f"{spec.name}: {operand.nbytes}")

    def matrix(self, spec: OperandSpec, operand: Operand, shape: Matrix) -> None:
        """Rows of an earlier result, or columns of them."""
        made = self.memory.defined.get(operand.value)
        if made is None:
            raise self.fail("undefined", f"{spec.name} reads value {operand.value}")
        self.need(made.kind in spec.kinds, "kind", f"{spec.name} is {made.kind}")
        self.need(made.rows == self.rows(shape), "rows.mismatch", spec.name)
        self.need(operand.region is made.place.region, "region", spec.name)
        self.need(operand.stride == made.place.stride, "stride", spec.name)
        if made.kind is Kind.F32:
            first = operand.offset - made.place.offset
            fits = first >= 0 and first + 4 * shape.columns <= 4 * made.columns
            self.need(fits, "view", f"{spec.name}: {shape.columns} columns at byte {first}")
        else:
            fits = operand.offset == made.place.offset and shape.columns == made.columns
            self.need(fits, "view", f"{spec.name}: not the whole of a {made.kind}")
        self.rows_extent(spec, operand, shape, made.kind)
        self.need(self.memory.intact(operand), "clobbered", f"{spec.name}, value {operand.value}")

    def rows(self, shape: Matrix) -> int | Rows:
        """Rows of an operand: the command's unless the contract says T."""
        own = self.command.rows if self.command is not None else 1
        return self.counted(own if shape.rows is None else shape.rows)

    def counted(self, rows: int | Rows) -> int | Rows:
        """A T that is at most 1 is 1."""
        return 1 if rows is Rows.T and self.entry.max_rows[Rows.T] == 1 else rows

    def rows_extent(self, spec: OperandSpec, operand: Operand, shape: Matrix, kind: Kind) -> None:
        rows = self.rows(shape)
        most = self.most(rows)
        if kind is Kind.Q8:
            codes = up(shape.columns, 128)
            record = up(codes + codes // 8 + 4, 64)
            self.need(operand.stride == record, "stride", f"{spec.name}: records of {record} bytes")
            wanted = most * record
        else:
            width = 4 * shape.columns
            stepped = operand.stride >= width and operand.stride % 4 == 0
            self.need(stepped, "stride", f"{spec.name}: {operand.stride} for rows of {width} bytes")
            wanted = (most - 1) * operand.stride + width
        self.need(
            operand.nbytes == wanted, "extent", f"{spec.name}: {operand.nbytes}, not {wanted}"
        )

    def state(self, spec: OperandSpec, operand: Operand, ints: Mapping[str, int]) -> None:
        """A cache half that this entry has written, in the form attention expects."""
        made = self.memory.defined.get(operand.value)
        if made is None:
            raise self.fail("state.unwritten", f"{spec.name} reads value {operand.value}")
        kind = KVKind.K if spec.name.startswith("k") else KVKind.V
        form = ints["kv_heads"], ints["head_dim"], ints["context"], ints["scheme"], int(kind)
        facts = (*form, *self.codes(f"{kind.name.lower()}_"))
        self.need(made.kind in spec.kinds and made.facts == facts, "state.mismatch", spec.name)
        self.need(self.memory.intact(operand), "clobbered", f"{spec.name}, value {operand.value}")
        self.need(made.place == operand, "state.mismatch", f"{spec.name} lies elsewhere")

    def codes(self, half: str = "") -> tuple[float, ...]:
        """Scale and zero point of a static cache, in which its writer and its readers agree."""
        if self.command is None:
            return ()
        names = BY_NAME[self.command.op].float_names(self.command.ints)
        floats = dict(zip(names, self.command.floats, strict=True))
        return tuple(
            floats[f"{half}{name}"] for name in ("scale", "zero") if f"{half}{name}" in floats
        )

    def no_alias(self, bound: list[tuple[OperandSpec, Operand]]) -> None:
        written = [each for each in bound if each[0].role in (Role.OUT, Role.STATE_WRITE)]
        for spec, operand in written:
            for other_spec, other in bound:
                clash = other is not operand and overlap(operand, other)
                self.need(not clash, "aliased", f"{spec.name} and {other_spec.name}")
        self.same_origin(bound)

    def same_origin(self, bound: list[tuple[OperandSpec, Operand]]) -> None:
        """Codes and scales were written together."""
        origins = {
            spec.name: self.memory.defined[operand.value].origin
            for spec, operand in bound
            if spec.role is Role.STATE_READ
        }
        for half in ("k", "v"):
            together = origins.get(f"{half}_scales", origins.get(half)) == origins.get(half)
            self.need(together, "state.mismatch", f"{half} and its scales")

    def writes(
        self, spec: OperandSpec, operand: Operand, shape: Shape, ints: Mapping[str, int]
    ) -> None:
        fresh = operand.value not in self.memory.defined and operand.value not in self.entry.given
        self.need(fresh, "redefined", f"{spec.name} gives value {operand.value} again")
        (kind,) = spec.kinds
        if isinstance(shape, Matrix):
            self.rows_extent(spec, operand, shape, kind)
            made = Definition(operand, kind, self.rows(shape), shape.columns, self.index)
        else:
            self.whole(spec, operand)
            facts = tuple(ints[name] for name in ("heads", "head_dim", "context", "scheme", "kind"))
            made = Definition(operand, kind, 0, 0, self.index, (*facts, *self.codes()))
        self.memory.write(operand, made)

    def whole(self, spec: OperandSpec, operand: Operand) -> None:
        """A cache write takes over the whole of one cache half, or one nothing has written yet."""
        for low, high, _ in self.memory.holders(operand):
            exact = (low, high) == (operand.offset, operand.offset + operand.nbytes)
            self.need(exact, "clobbered", f"{spec.name} writes over part of another cache")
