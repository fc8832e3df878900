"""Whether a command has its contract's form: counts, ranges, integers that only go together, operands present."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import IntEnum
from math import inf

from hearth.runtime.verify.plan.shapes import Absent, Shape
from hearth.schemas.commands import (
    GATES,
    Activation,
    Contract,
    KVKind,
    KVScheme,
    Layout,
    OperandSpec,
    Pooling,
)
from hearth.schemas.program import Command, Operand

Fault = tuple[str, str]  # code, what was found


class Switch(IntEnum):
    """Off or on."""

    OFF = 0
    ON = 1


ENUMS: Mapping[str, type[IntEnum]] = {
    "layout": Layout,
    "activation": Activation,
    "scheme": KVScheme,
    "kind": KVKind,
    "causal": Switch,
}
ENUMS_OF: Mapping[tuple[str, str], type[IntEnum]] = {("pool", "kind"): Pooling}
MAY_BE_ZERO = frozenset({"group", "rotary_dim", "window"})
GROUPS = (32, 64, 128)
LARGEST_K = 131_072  # int32 sums of int8 products
ZEROS = frozenset({"zero", "k_zero", "v_zero"})  # codes of 0.0
LARGEST_FACTOR = 1024


def fault(contract: Contract, command: Command) -> Fault | None:
    """The first fault, None where there is none."""
    return _counts(contract, command) or next(_values(contract, command), None)


def _counts(contract: Contract, command: Command) -> Fault | None:
    if len(command.operands) != len(contract.operands):
        return "op.arity", f"{len(command.operands)} operands, not {len(contract.operands)}"
    found = len(command.ints), len(command.floats)
    wanted = len(contract.ints), len(contract.float_names(command.ints))
    return None if found == wanted else ("op.ints", f"{found} attributes, not {wanted}")


def _values(contract: Contract, command: Command) -> Iterator[Fault]:
    ints = dict(zip(contract.ints, command.ints, strict=True))
    for name, value in ints.items():
        members = ENUMS_OF.get((contract.name, name), ENUMS.get(name))
        least = 0 if name in MAY_BE_ZERO else 1
        legal = value >= least if members is None else value in list(members)
        if not legal or (name == "K" and value > LARGEST_K):
            yield "op.value", f"{name} = {value}"
    yield from (("op.value", what) for wrong, what in _pairs(ints) if wrong)
    for name, number in zip(contract.float_names(command.ints), command.floats, strict=True):
        legal = _is_code(number) if name in ZEROS else 0 < number < inf
        if not legal:
            yield "op.value", f"{name} = {number}"
    if contract.name == "activate" and not Activation(ints["activation"]).is_function:
        yield "op.value", f"activation = {ints['activation']}"
    if contract.name == "pool" and command.rows != 1:
        yield "rows.bound", f"{command.rows} rows"


def _is_code(value: float) -> bool:
    return -127 <= value <= 127 and value == int(value)


def _pairs(ints: Mapping[str, int]) -> Iterator[tuple[bool, str]]:
    """What is wrong about integers together."""
    yield not _fits_group(ints), f"group {ints.get('group', 0)}"
    rotary = ints.get("rotary_dim", 0)
    yield rotary % 2 != 0 or rotary > ints.get("head_dim", 0), f"rotary_dim {rotary}"
    yield ints.get("heads", 1) % ints.get("kv_heads", 1) != 0, "heads over kv_heads"
    yield not ints.get("causal", 1) and ints.get("window", 0) > 0, "a window that is not causal"
    yield not _factors_divide(ints), "q, r and s"
    odd = ints.get("N", 0) % 2 != 0
    yield odd and _is_paired(ints), "N of a paired weight is odd"


def _is_paired(ints: Mapping[str, int]) -> bool:
    """Whether the activation is known, and gated."""
    return ints.get("activation") in tuple(GATES)


def _factors_divide(ints: Mapping[str, int]) -> bool:
    """A Hadamard matrix: dense orders 1 or a multiple of 4, a power of two, their product in K."""
    q, r, s = (ints.get(name, 1) for name in ("q", "r", "s"))
    dense = all(order == 1 or (order % 4 == 0 and order <= LARGEST_FACTOR) for order in (q, r))
    return (
        dense and s > 0 and s & (s - 1) == 0 and q * r > 0 and ints.get("K", 0) % (q * r * s) == 0
    )


def _fits_group(ints: Mapping[str, int]) -> bool:
    """Integer scales have groups of three sizes, float scales multiples of 16 up to the row, others none."""
    group = ints.get("group", 0)
    match ints.get("layout"):
        case (
            Layout.Q4B16 | Layout.T2B16 | Layout.T3B16 | Layout.T4B16 | Layout.T5B16 | Layout.T6B16
        ):
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
    return (*(ints[name] for name in ("N", "K", "layout", "group")), int(_is_paired(ints)))
