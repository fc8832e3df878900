"""The command contracts: for each opcode its operands, integer and float attributes, in binding order.

One table feeds the emitter, the plan checker, the native executor's binding and the documentation.
`runtime/kernels/contracts.cc` mirrors it; a test compares the two through `native.contracts()`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum, StrEnum


class Layout(IntEnum):
    """Packed weight layouts (docs/layouts.md)."""

    F32B16 = 0
    F16B16 = 1
    Q8B16 = 2
    Q4B16 = 3
    G4B16 = 4  # 4-bit codes, a float scale and a zero point per group
    G8B16 = 5  # 8-bit codes likewise
    T2B16 = 6  # 2-bit codes of a table's levels, an integer multiplier per group, a bf16 scale per channel
    T3B16 = 7
    T4B16 = 8
    T5B16 = 9
    T6B16 = 10

    @property
    def table_bits(self) -> int:
        """Bits of a code of a table layout; 0 of the other layouts."""
        return int(self) - 4 if self >= Layout.T2B16 else 0


class KVScheme(IntEnum):
    """How keys and values are stored (docs/layouts.md)."""

    F32 = 0
    F16 = 1
    INT8 = 2
    INT8_STATIC = 3  # one scale and one zero point per layer and half, in the commands


class Activation(IntEnum):
    """Epilogue activations of a linear; those of one value are also a command of their own.

    The gated ones are of two values: what their `gate` gives of the first, times the second.
    """

    NONE = 0
    SILU = 1
    SWIGLU = 2  # silu(gate) * up
    GELU = 3  # x * Phi(x), by erf
    GELU_TANH = 4  # its tanh form ("gelu_new", "gelu_pytorch_tanh", FastGelu)
    RELU = 5
    TANH = 6
    SIGMOID = 7
    GEGLU_TANH = 8  # gelu_tanh(gate) * up

    @property
    def gate(self) -> Activation | None:
        """The function of the gate; None of what is not gated."""
        return GATES.get(self)

    @property
    def is_function(self) -> bool:
        """Whether it is a function of one value that changes it."""
        return self is not Activation.NONE and self.gate is None


GATES: Mapping[Activation, Activation] = {
    Activation.SWIGLU: Activation.SILU,
    Activation.GEGLU_TANH: Activation.GELU_TANH,
}
"""The gated activations with the function of their gate."""


class Pooling(IntEnum):
    """How the rows of a text become one vector."""

    MEAN = 0
    FIRST = 1
    LAST = 2
    MAX = 3


class KVKind(IntEnum):
    """Which half of a layer's cache."""

    K = 0
    V = 1


class Role(StrEnum):
    """What a command does with an operand."""

    IN = "in"
    OUT = "out"
    WEIGHT = "weight"
    STATE_READ = "state_read"
    STATE_WRITE = "state_write"


class Kind(StrEnum):
    """What the operand's bytes are."""

    TOKENS = "tokens"  # i32[rows]
    F32 = "f32"  # f32[rows, cols], rows `stride` bytes apart
    Q8 = "q8"  # quantised activation records (docs/layouts.md)
    PACKED = "packed"  # a packed weight
    VECTOR = "vector"  # f32[N]
    TABLE = "table"  # f32[S, rotary_dim / 2]
    KV = "kv"  # one layer's K or V codes
    KV_SCALE = "kv_scale"  # one layer's K or V scales


_CODES = ("scale", "zero")  # of static codes: a float32 and a whole number in -127..127


@dataclass(frozen=True)
class OperandSpec:
    """One operand of a contract; several kinds where the command takes either."""

    name: str
    role: Role
    kinds: tuple[Kind, ...]
    optional: bool = False


@dataclass(frozen=True)
class Contract:
    """What one command of the program means, without saying which kernel runs it.

    `fixed`: floats that follow where the cache's scheme is INT8_STATIC.
    A run may take rows of several sequences. `by_segment`: what a row gives depends on its position or on the
    other rows of its sequence, so the command is done for each sequence by itself; else for all rows at once.
    """

    opcode: int
    name: str
    operands: tuple[OperandSpec, ...]
    ints: tuple[str, ...] = ()
    floats: tuple[str, ...] = ()
    by_segment: bool = False
    fixed: tuple[str, ...] = ()

    @property
    def makes_static_codes(self) -> bool:
        """Whether its result is static codes, of the scale and the zero point that are its last floats."""
        return self.floats[-2:] == _CODES

    def float_names(self, ints: Sequence[int]) -> tuple[str, ...]:
        """The float attributes of a command with these integers."""
        scheme = dict(zip(self.ints, ints, strict=False)).get("scheme")
        return (*self.floats, *self.fixed) if scheme == KVScheme.INT8_STATIC else self.floats


def _in(name: str, *kinds: Kind, optional: bool = False) -> OperandSpec:
    return OperandSpec(name, Role.IN, kinds or (Kind.F32,), optional)


def _out(name: str, kind: Kind = Kind.F32) -> OperandSpec:
    return OperandSpec(name, Role.OUT, (kind,))


def _weight(name: str, kind: Kind, optional: bool = False) -> OperandSpec:
    return OperandSpec(name, Role.WEIGHT, (kind,), optional)


def _state(name: str, role: Role, kind: Kind, optional: bool = False) -> OperandSpec:
    return OperandSpec(name, role, (kind,), optional)


_TABLES = (_weight("cos", Kind.TABLE, True), _weight("sin", Kind.TABLE, True))
_AFFINE = (_weight("gain", Kind.VECTOR, True), _weight("bias", Kind.VECTOR, True))
_READ, _WRITE = Role.STATE_READ, Role.STATE_WRITE

# y[T, H * D] = attention of q[T, H * D] (rotated where tables are given) over the cache; causal 0: every row
# sees all positions up to the last row's
_ATTENTION = Contract(
    12,
    "attention",
    (
        _in("q"),
        *_TABLES,
        _state("k", _READ, Kind.KV),
        _state("k_scales", _READ, Kind.KV_SCALE, True),
        _state("v", _READ, Kind.KV),
        _state("v_scales", _READ, Kind.KV_SCALE, True),
        _out("y"),
    ),
    ("heads", "kv_heads", "head_dim", "rotary_dim", "context", "scheme", "window", "causal"),
    ("scale",),
    by_segment=True,
    fixed=("k_scale", "k_zero", "v_scale", "v_zero"),
)

CONTRACTS: tuple[Contract, ...] = (
    # y[T, K] = row tokens[t] of table[N, K]
    Contract(
        1,
        "embed",
        (_in("tokens", Kind.TOKENS), _weight("table", Kind.PACKED), _out("y")),
        ("N", "K", "layout", "group"),
    ),
    # y[M, K] = rms_norm(x) (* gain)
    Contract(
        2,
        "rms_norm",
        (_in("x"), _weight("gain", Kind.VECTOR, True), _out("y")),
        ("K",),
        ("eps",),
    ),
    # y = quantize(rms_norm(x) (* gain))
    Contract(
        3,
        "rms_norm_quantize",
        (_in("x"), _weight("gain", Kind.VECTOR, True), _out("y", Kind.Q8)),
        ("K",),
        ("eps",),
    ),
    # y = quantize(x)
    Contract(4, "quantize", (_in("x"), _out("y", Kind.Q8)), ("K",)),
    # y[M, N] = activation(x[M, K] @ w[N, K]^T + bias) + residual; gated: y[M, N / 2], w paired
    Contract(
        5,
        "linear",
        (
            _in("x", Kind.F32, Kind.Q8),
            _weight("w", Kind.PACKED),
            _weight("bias", Kind.VECTOR, True),
            _in("residual", optional=True),
            _out("y"),
        ),
        ("N", "K", "layout", "group", "activation"),
    ),
    # elementwise on f32[M, N]; b of add may be a vector f32[N] of the weights (stride 0: the same for every row)
    Contract(6, "add", (_in("a"), _in("b", Kind.F32, Kind.VECTOR), _out("y")), ("N",)),
    Contract(7, "mul", (_in("a"), _in("b"), _out("y")), ("N",)),
    # y = f(x) elementwise, f an Activation that is a function of one value
    Contract(8, "activate", (_in("x"), _out("y")), ("N", "activation")),
    Contract(9, "swiglu", (_in("gate"), _in("up"), _out("y")), ("N",)),
    # y[M, H * D] = rope(x) at the rows' positions
    Contract(
        10,
        "rope",
        (_in("x"), _weight("cos", Kind.TABLE), _weight("sin", Kind.TABLE), _out("y")),
        ("heads", "head_dim", "rotary_dim"),
        by_segment=True,
    ),
    # cache[position .. position + T) = x[T, Hkv * D] (rotated where tables are given)
    Contract(
        11,
        "kv_write",
        (
            _in("x"),
            *_TABLES,
            _state("cache", _WRITE, Kind.KV),
            _state("scales", _WRITE, Kind.KV_SCALE, True),
        ),
        ("heads", "head_dim", "rotary_dim", "context", "scheme", "kind"),
        by_segment=True,
        fixed=_CODES,
    ),
    _ATTENTION,
    # y[R, N] = the last R of the T rows of x
    Contract(13, "last_rows", (_in("x"), _out("y")), ("N",), by_segment=True),
    # y[M, K] = layer_norm(x) (* gain) (+ bias)
    Contract(
        14,
        "layer_norm",
        (_in("x"), *_AFFINE, _out("y")),
        ("K",),
        ("eps",),
    ),
    # y = quantize(layer_norm(x) (* gain) (+ bias))
    Contract(
        15,
        "layer_norm_quantize",
        (_in("x"), *_AFFINE, _out("y", Kind.Q8)),
        ("K",),
        ("eps",),
    ),
    # y[T, K] = row position + t of table[N, K] (learned positions)
    Contract(
        16,
        "embed_positions",
        (_weight("table", Kind.PACKED), _out("y")),
        ("N", "K", "layout", "group"),
        by_segment=True,
    ),
    # y[1, N] = the pooled T rows of x (kind: Pooling)
    Contract(17, "pool", (_in("x"), _out("y")), ("N", "kind"), by_segment=True),
    # y[M, N] = x / max(|x|_2, eps), row by row
    Contract(18, "l2_normalize", (_in("x"), _out("y")), ("N",), ("eps",)),
    # as 4, 3 and 15 with codes of a fixed scale and zero point
    Contract(19, "quantize_static", (_in("x"), _out("y", Kind.Q8)), ("K",), _CODES),
    Contract(
        20,
        "rms_norm_quantize_static",
        (_in("x"), _weight("gain", Kind.VECTOR, True), _out("y", Kind.Q8)),
        ("K",),
        ("eps", *_CODES),
    ),
    Contract(
        21,
        "layer_norm_quantize_static",
        (_in("x"), *_AFFINE, _out("y", Kind.Q8)),
        ("K",),
        ("eps", *_CODES),
    ),
    # y[M, K] = x H / sqrt(q r s) in blocks of q r s columns; H = Q x R x Sylvester(s), the signs those of Q and R
    # where their order is not 1
    Contract(
        22,
        "hadamard",
        (_in("x"), _weight("signs", Kind.VECTOR, True), _out("y")),
        ("K", "q", "r", "s"),
    ),
    # y[M, H * D] = rms_norm of each head of x by itself (* gain[D])
    Contract(
        23,
        "head_norm",
        (_in("x"), _weight("gain", Kind.VECTOR, True), _out("y")),
        ("heads", "head_dim"),
        ("eps",),
    ),
    # as 9, with gelu_tanh
    Contract(24, "geglu_tanh", (_in("gate"), _in("up"), _out("y")), ("N",)),
    # y[M, N] = x * factor
    Contract(25, "scale", (_in("x"), _out("y")), ("N",), ("factor",)),
    # y[M, N] = tanh(x / cap) * cap
    Contract(26, "soft_cap", (_in("x"), _out("y")), ("N",), ("cap",)),
    # as 12 with scores that are capped so
    replace(_ATTENTION, opcode=27, name="attention_capped", floats=("scale", "cap")),
)

BY_NAME: dict[str, Contract] = {contract.name: contract for contract in CONTRACTS}
