"""Whether a command has its contract's form: counts, ranges, integers that only go together, operands present."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import IntEnum
from math import inf

from hearth.compiler.lower.check_shapes import Absent, Shape
from hearth.schemas.commands import Activation, Contract, KVKind, KVScheme, Layout, OperandSpec
from hearth.schemas.program import Command, Operand, Rows

Fault = tuple[str, str]  # code, what was found

ENUMS: Mapping[str, type[IntEnum]] = {
    "layout": Layout,
    "activation": Activation,
    "scheme": KVScheme,
    "kind": KVKind,
}
MAY_BE_ZERO = frozenset({"group", "rotary_dim", "window"})
GROUPS = (32, 64, 128)
LARGEST_K = 131_072  # int32 sums of int8 products


def fault(contract: Contract, command: Command) -> Fault | None:
    """The first fault, None where there is none."""
    return _counts(contract, command) or next(_values(contract, command), None)


def _counts(contract: Contract, command: Command) -> Fault | None:
    if len(command.operands) != len(contract.operands):
        return "op.arity", f"{len(command.operands)} operands, not {len(contract.operands)}"
    found = len(command.ints), len(command.floats)
    wanted = len(contract.ints), len(contract.floats)
    return None if found == wanted else ("op.ints", f"{found} attributes, not {wanted}")


def _values(contract: Contract, command: Command) -> Iterator[Fault]:
    ints = dict(zip(contract.ints, command.ints, strict=True))
    for name, value in ints.items():
        legal = value in list(ENUMS[name]) if name in ENUMS else value >= (name not in MAY_BE_ZERO)
        if not legal or (name == "K" and value > LARGEST_K):
            yield "op.value", f"{name} = {value}"
    yield from (("op.value", what) for wrong, what in _pairs(ints) if wrong)
    if not all(0 < value < inf for value in command.floats):
        yield "op.value", f"{command.floats}"
    if not isinstance(command.rows, Rows) and command.rows != 1:
        yield "rows.bound", f"{command.rows} rows"


def _pairs(ints: Mapping[str, int]) -> Iterator[tuple[bool, str]]:
    """What is wrong about integers together."""
    yield not _fits_group(ints), f"group {ints.get('group', 0)}"
    rotary = ints.get("rotary_dim", 0)
    yield rotary % 2 != 0 or rotary > ints.get("head_dim", 0), f"rotary_dim {rotary}"
    yield ints.get("heads", 1) % ints.get("kv_heads", 1) != 0, "heads over kv_heads"
    odd = ints.get("N", 0) % 2 != 0
    yield odd and ints.get("activation") == Activation.SWIGLU, "N of a paired weight is odd"


def _fits_group(ints: Mapping[str, int]) -> bool:
    """Integer scales have groups of three sizes, float scales multiples of 16 up to the row, others none."""
    group = ints.get("group", 0)
    match ints.get("layout"):
        case Layout.Q4B16:
            return group in GROUPS
        case Layout.G4B16 | Layout.G8B16:
            return 0 < group < ints["K"] + 16 and group % 16 == 0
    return group == 0


def presence(spec: OperandSpec, operand: Operand | None, shape: Shape) -> Fault | None:
    """Optional gains, biases and residuals may be absent; tables and scales follow from the integers."""
    if isinstance(shape, Absent):
        return None if operand is None else ("operand.unexpected", spec.name)
    free = spec.optional and spec.name in ("gain", "bias", "residual")
    return ("operand.missing", spec.name) if operand is None and not free else None


def weight_form(ints: Mapping[str, int]) -> tuple[int, ...]:
    """How a command reads the bytes of its packed weight."""
    paired = ints.get("activation") == Activation.SWIGLU
    return (*(ints[name] for name in ("N", "K", "layout", "group")), int(paired))
