"""Where operands lie, and how many bytes they are: the checks that need no memory of what was written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hearth.runtime.verify.plan.at import At
from hearth.runtime.verify.plan.memory import overlap
from hearth.runtime.verify.plan.shapes import Flat, Matrix, Shape, Table, up
from hearth.schemas.commands import Kind, OperandSpec, Role
from hearth.schemas.program import Operand, Port, Region

REGIONS: Mapping[Role, tuple[Region, ...]] = {
    Role.IN: (Region.ARENA, Region.IO),
    Role.OUT: (Region.ARENA, Region.IO),
    Role.WEIGHT: (Region.WEIGHTS,),
    Role.STATE_READ: (Region.KV,),
    Role.STATE_WRITE: (Region.KV,),
}
WRITTEN = (Role.OUT, Role.STATE_WRITE)


@dataclass(frozen=True, eq=False)
class Bound:
    """An operand that is there, and what its contract says of it."""

    spec: OperandSpec
    operand: Operand
    shape: Shape

    @property
    def name(self) -> str:
        """As the contract has it."""
        return self.spec.name


def check_port(at: At, port: Port) -> None:
    """Rows without gaps in io."""
    place, width = port.operand, 4 * max(port.columns, 1)
    at.need(place.region is Region.IO, "io", f"{port.name} lies outside io")
    whole = place.stride == width and place.nbytes == at.most(port.rows) * width
    at.need(whole, "extent", port.name)
    _check_bounds(at, place, 64)


def check_region(at: At, bound: Bound) -> None:
    """Inside a region that its role allows."""
    spec, operand = bound.spec, bound.operand
    allowed = REGIONS[spec.role]
    if Kind.VECTOR in spec.kinds and spec.role is Role.IN:
        allowed = (*allowed, Region.WEIGHTS)
    at.need(operand.region in allowed, "region", f"{spec.name} in {operand.region.name}")
    weight = operand.region is Region.WEIGHTS
    at.need((operand.value < 0) == weight, "value", f"{spec.name} has {operand.value}")
    _check_bounds(at, operand, 64 if spec.role in WRITTEN else 4)


def _check_bounds(at: At, operand: Operand, align: int) -> None:
    sizes = {
        Region.WEIGHTS: at.program.weights_nbytes,
        Region.ARENA: at.entry.arena_nbytes,
        Region.KV: at.program.kv_nbytes,
        Region.IO: at.program.io_nbytes,
    }
    end = operand.offset + operand.nbytes
    inside = operand.offset >= 0 and operand.nbytes > 0 and end <= sizes[operand.region]
    at.need(inside, "bounds", f"bytes {operand.offset}..{end} of {operand.region.name}")
    at.need(operand.offset % align == 0, "align", f"offset {operand.offset}")


def check_flat(at: At, bound: Bound) -> None:
    """Bytes without rows; of a matrix in the weights, one row."""
    operand, shape = bound.operand, bound.shape
    at.need(operand.stride == 0, "stride", f"{bound.name} has no rows")
    match shape:
        case Matrix():
            _check_bytes(at, bound, Flat(4 * shape.columns, 4))
        case Flat():
            _check_bytes(at, bound, shape)
        case Table():
            whole = operand.nbytes % (4 * shape.columns) == 0
            enough = operand.nbytes >= 4 * shape.columns * shape.positions
            at.need(whole and enough, "extent", f"{bound.name}: {operand.nbytes}")


def _check_bytes(at: At, bound: Bound, shape: Flat) -> None:
    operand = bound.operand
    exact = operand.nbytes == shape.nbytes
    at.need(exact, "extent", f"{bound.name}: {operand.nbytes}, not {shape.nbytes}")
    at.need(operand.offset % shape.align == 0, "align", bound.name)


def check_rows(at: At, bound: Bound, shape: Matrix, kind: Kind) -> None:
    """Rows of floats, or records of codes, so many as there can be."""
    operand, most = bound.operand, at.most(at.rows(shape))
    if kind is Kind.Q8:
        codes = up(shape.columns, 128)
        record = up(codes + codes // 8 + 4, 64)
        at.need(operand.stride == record, "stride", f"{bound.name}: records of {record} bytes")
        wanted = most * record
    else:
        width = 4 * shape.columns
        stepped = operand.stride >= width and operand.stride % 4 == 0
        at.need(stepped, "stride", f"{bound.name}: {operand.stride} for rows of {width} bytes")
        wanted = (most - 1) * operand.stride + width
    at.need(operand.nbytes == wanted, "extent", f"{bound.name}: {operand.nbytes}, not {wanted}")


def check_apart(at: At, bounds: Sequence[Bound]) -> None:
    """What is written lies over no other operand of the command."""
    for each in bounds:
        if each.spec.role in WRITTEN:
            for other in bounds:
                clash = other is not each and overlap(each.operand, other.operand)
                at.need(not clash, "aliased", f"{each.name} and {other.name}")
