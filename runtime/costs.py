"""What a program has to read and compute, command by command: counted from the program alone, nothing is run.

Bytes of weights and of the KV cache count once a command, as though caches held whatever is used again within it; what
matters of a table is the rows that are read. A multiplication and an addition count as two operations; those of
a softmax, an activation's exp, an epilogue count as none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from hearth.schemas.commands import BY_NAME, Kind, KVScheme, Role
from hearth.schemas.program import Command, Entry, Operand, Region, Rows

VALUE_NBYTES: Mapping[KVScheme, int] = {
    KVScheme.F32: 4,
    KVScheme.F16: 2,
    KVScheme.INT8: 1,
    KVScheme.INT8_STATIC: 1,
}


@dataclass(frozen=True)
class Cost:
    """Bytes by where they lie, operations by what they are made on."""

    weight_nbytes: int = 0
    kv_nbytes: int = 0
    activation_nbytes: int = 0  # of arena and io: as a rule in the processor's caches
    int8_operations: int = 0
    f32_operations: int = 0

    @property
    def memory_nbytes(self) -> int:
        """What has to come from memory, or go there: weights, keys and values."""
        return self.weight_nbytes + self.kv_nbytes

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            self.weight_nbytes + other.weight_nbytes,
            self.kv_nbytes + other.kv_nbytes,
            self.activation_nbytes + other.activation_nbytes,
            self.int8_operations + other.int8_operations,
            self.f32_operations + other.f32_operations,
        )


@dataclass(frozen=True)
class Place:
    """One run of an entry: T tokens from a position on, R rows of logits."""

    tokens: int
    rows: int = 1
    position: int = 0


@dataclass(frozen=True)
class _Counted:
    """A command within a run: the rows it takes, whether a linear's x is q8."""

    command: Command
    place: Place
    rows: int
    x_is_q8: bool

    @property
    def ints(self) -> Mapping[str, int]:
        return dict(zip(BY_NAME[self.command.op].ints, self.command.ints, strict=True))


def command_costs(entry: Entry, place: Place) -> tuple[Cost, ...]:
    """The cost of each command of an entry, in order."""
    q8 = _quantised(entry)
    found = []
    for command in entry.commands:
        first = command.operands[0]
        x_is_q8 = command.op == "linear" and first is not None and first.value in q8
        counted = _Counted(command, place, _rows(command.rows, place), x_is_q8)
        found.append(_cost(counted))
    return tuple(found)


def run_cost(entry: Entry, place: Place) -> Cost:
    """What one run costs in all."""
    return sum(command_costs(entry, place), Cost())


def prefill_places(tokens: int, chunk: int, position: int = 0) -> tuple[Place, ...]:
    """The runs of a prompt: chunks, of which the last one gives a row of logits."""
    starts = range(0, tokens, chunk)
    return tuple(
        Place(min(chunk, tokens - start), int(start + chunk >= tokens), position + start)
        for start in starts
    )


def prefill_cost(entry: Entry, tokens: int, chunk: int, position: int = 0) -> Cost:
    """What reading a prompt costs in all."""
    places = prefill_places(tokens, chunk, position)
    return sum((run_cost(entry, place) for place in places), Cost())


def _rows(rows: int | Rows, place: Place) -> int:
    match rows:
        case Rows.T:
            return place.tokens
        case Rows.R:
            return place.rows
        case int():
            return rows


def _quantised(entry: Entry) -> frozenset[int]:
    """The values that commands wrote as q8 records."""
    return frozenset(
        operand.value
        for command in entry.commands
        for spec, operand in zip(BY_NAME[command.op].operands, command.operands, strict=True)
        if operand is not None and spec.role is Role.OUT and spec.kinds == (Kind.Q8,)
    )


def _cost(counted: _Counted) -> Cost:
    if counted.rows == 0:
        return Cost()
    specs = BY_NAME[counted.command.op].operands
    weight = kv = activation = 0
    for spec, operand in zip(specs, counted.command.operands, strict=True):
        if operand is None:
            continue
        match operand.region:
            case Region.WEIGHTS:
                weight += _weight_nbytes(counted, spec.kinds[0], operand)
            case Region.KV:
                kv += _kv_nbytes(counted, spec.kinds[0])
            case Region.ARENA | Region.IO:
                activation += _activation_nbytes(counted, operand, spec.role)
    int8, f32 = OPERATIONS.get(counted.command.op, _none)(counted)
    return Cost(weight, kv, activation, int8, f32)


def _weight_nbytes(counted: _Counted, kind: Kind, operand: Operand) -> int:
    ints = counted.ints
    if kind is Kind.TABLE:
        return counted.rows * (ints["rotary_dim"] // 2) * 4
    if kind is Kind.PACKED and counted.command.op != "linear":  # the rows that the tokens choose
        return operand.nbytes * min(counted.rows, ints["N"]) // ints["N"]
    return operand.nbytes


def _kv_nbytes(counted: _Counted, kind: Kind) -> int:
    """One of K and V, codes or scales; attention reads what any of its rows sees."""
    ints = counted.ints
    reads = "kv_heads" in ints
    positions = _span(counted) if reads else counted.rows
    heads = ints["kv_heads"] if reads else ints["heads"]
    one = 4 if kind is Kind.KV_SCALE else ints["head_dim"] * VALUE_NBYTES[KVScheme(ints["scheme"])]
    return positions * heads * one


def _span(counted: _Counted) -> int:
    """Positions that at least one row sees."""
    end = counted.place.position + counted.place.tokens
    window = counted.ints["window"]
    return min(end, counted.place.tokens + window - 1) if window else end


def _seen(counted: _Counted) -> int:
    """Pairs of a row and a position that it sees."""
    ints, place = counted.ints, counted.place
    if not ints["causal"]:
        return counted.rows * (place.position + place.tokens)
    ends = range(place.position + 1, place.position + counted.rows + 1)
    return sum(min(end, ints["window"]) for end in ends) if ints["window"] else sum(ends)


def _activation_nbytes(counted: _Counted, operand: Operand, role: Role) -> int:
    """Rows lie `stride` apart, of which the last one's bytes are its own."""
    if not operand.stride:
        return operand.nbytes
    held = -(-operand.nbytes // operand.stride)
    row = operand.nbytes - (held - 1) * operand.stride
    all_rows = counted.command.op == "pool" and role is Role.IN
    return row * min(counted.place.tokens if all_rows else counted.rows, held)


_Operations = tuple[int, int]  # int8, f32


def _none(counted: _Counted) -> _Operations:
    return 0, 0


def _linear(counted: _Counted) -> _Operations:
    count = 2 * counted.rows * counted.ints["N"] * counted.ints["K"]
    return (count, 0) if counted.x_is_q8 else (0, count)


def _attention(counted: _Counted) -> _Operations:
    """q with every key it sees, then weights with values: the first in integers where keys are int8."""
    ints = counted.ints
    each = 2 * ints["heads"] * ints["head_dim"] * _seen(counted)
    turned = 3 * counted.rows * ints["heads"] * ints["rotary_dim"]
    coded = VALUE_NBYTES[KVScheme(ints["scheme"])] == 1
    return (each, each + turned) if coded else (0, 2 * each + turned)


def _turned(counted: _Counted) -> _Operations:
    """Four multiplications and two additions for a pair of values."""
    return 0, 3 * counted.rows * counted.ints["heads"] * counted.ints["rotary_dim"]


def _each(name: str, count: int) -> Callable[[_Counted], _Operations]:
    """So many operations for each value of a row."""
    return lambda counted: (0, count * counted.rows * counted.ints[name])


def _head_norm(counted: _Counted) -> _Operations:
    return 0, 4 * counted.rows * counted.ints["heads"] * counted.ints["head_dim"]


def _hadamard(counted: _Counted) -> _Operations:
    """A multiplication and an addition for each sign of a dense factor's row, an addition for each butterfly."""
    q, r, s = (counted.ints[name] for name in ("q", "r", "s"))
    dense = sum(2 * order for order in (q, r) if order > 1)
    return 0, counted.rows * counted.ints["K"] * (dense + s.bit_length())


def _pool(counted: _Counted) -> _Operations:
    return 0, counted.place.tokens * counted.ints["N"]


OPERATIONS: Mapping[str, Callable[[_Counted], _Operations]] = {
    "linear": _linear,
    "attention": _attention,
    "attention_capped": _attention,
    "rope": _turned,
    "kv_write": _turned,
    "rms_norm": _each("K", 4),
    "rms_norm_quantize": _each("K", 6),
    "rms_norm_quantize_static": _each("K", 6),
    "quantize": _each("K", 2),
    "quantize_static": _each("K", 2),
    "add": _each("N", 1),
    "mul": _each("N", 1),
    "activate": _each("N", 1),
    "swiglu": _each("N", 2),
    "geglu_tanh": _each("N", 2),
    "scale": _each("N", 1),
    "soft_cap": _each("N", 2),
    "layer_norm": _each("K", 6),
    "layer_norm_quantize": _each("K", 8),
    "layer_norm_quantize_static": _each("K", 8),
    "pool": _pool,
    "l2_normalize": _each("N", 3),
    "hadamard": _hadamard,
    "head_norm": _head_norm,
}
