"""What each contract's operands must measure, derived from its integers alone (for the plan checker).

Written against docs/layouts.md and schemas/commands.py, on purpose sharing no code with the packers and the planner.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from hearth.schemas.commands import Activation, KVKind, KVScheme, Layout
from hearth.schemas.program import Rows


class PlanError(Exception):
    """A program that must not run: a bug of the compiler. `code` names the kind of fault."""

    def __init__(self, code: str, where: str, what: str) -> None:
        super().__init__(f"{where}: {what} [{code}]")
        self.code = code


@dataclass(frozen=True)
class Matrix:
    """Rows of `columns` numbers; None: as many rows as the command has."""

    columns: int
    rows: Rows | None = None


@dataclass(frozen=True)
class Flat:
    """So many bytes without rows, on a boundary of `align`."""

    nbytes: int
    align: int = 64


@dataclass(frozen=True)
class Table:
    """f32[positions, columns] with at least `positions` rows."""

    columns: int
    positions: int


@dataclass(frozen=True)
class Absent:
    """The optional operand must not be there."""


Shape = Matrix | Flat | Table | Absent
Ints = Mapping[str, int]


def up(value: int, to: int) -> int:
    """value rounded up to a multiple of `to`."""
    return (value + to - 1) // to * to


def weight_nbytes(ints: Ints, paired: bool) -> int:
    """docs/layouts.md, the table of layouts."""
    n, k, group = ints["N"], ints["K"], ints["group"]
    channels = 2 * up(n // 2, 16) if paired else up(n, 16)
    match Layout(ints["layout"]):
        case Layout.F32B16:
            return channels * k * 4
        case Layout.F16B16:
            return channels * k * 2
        case Layout.Q8B16:
            return channels * up(k, 64) + channels * 4
        case Layout.Q4B16:
            columns = up(k, max(64, group))
            multipliers = up(columns // group * 16, 64)
            return channels // 16 * (multipliers + columns * 8) + channels * 4
        case Layout.G4B16 | Layout.G8B16 as grouped:
            heads = up(k, 4 * group) // (4 * group) * 320  # scales and zero points of four groups
            code_nbytes = up(k, 16) * (8 if grouped is Layout.G4B16 else 16)
            return channels // 16 * (heads + code_nbytes)
        case tabled:  # the table, multipliers and planes of codes, bf16 scales
            columns = up(k, 32)
            multipliers = up(columns, group) // group * 16
            return 64 + channels // 16 * (multipliers + columns * 2 * tabled.table_bits + 32)


def cache_nbytes(ints: Ints, heads: int, kind: KVKind) -> int:
    """docs/layouts.md, the table of KV schemes."""
    context, width = ints["context"], ints["head_dim"]
    match KVScheme(ints["scheme"]):
        case KVScheme.F32:
            return heads * context * width * 4
        case KVScheme.F16:
            return heads * context * width * 2
        case KVScheme.INT8 | KVScheme.INT8_STATIC if kind is KVKind.K:
            return heads * up(context, 16) * up(width, 4)
        case KVScheme.INT8 | KVScheme.INT8_STATIC:
            return heads * context * width


def _scales(ints: Ints, heads: int) -> Shape:
    if KVScheme(ints["scheme"]) is not KVScheme.INT8:
        return Absent()
    return Flat(4 * heads * up(ints["context"], 16))


def _tables(ints: Ints) -> dict[str, Shape]:
    half = ints["rotary_dim"] // 2
    shape = Table(half, ints.get("context", 1)) if half else Absent()
    return {"cos": shape, "sin": shape}


def _embed(ints: Ints) -> dict[str, Shape]:
    return {
        "tokens": Matrix(1),
        "table": Flat(weight_nbytes(ints, paired=False)),
        "y": Matrix(ints["K"]),
    }


def _norm(ints: Ints) -> dict[str, Shape]:
    vector = Flat(4 * ints["K"], 4)
    return {"x": Matrix(ints["K"]), "gain": vector, "bias": vector, "y": Matrix(ints["K"])}


def _head_norm(ints: Ints) -> dict[str, Shape]:
    width = Matrix(ints["heads"] * ints["head_dim"])
    return {"x": width, "gain": Flat(4 * ints["head_dim"], 4), "y": width}


def _linear(ints: Ints) -> dict[str, Shape]:
    paired = Activation(ints["activation"]).gate is not None
    columns = ints["N"] // 2 if paired else ints["N"]
    return {
        "x": Matrix(ints["K"]),
        "w": Flat(weight_nbytes(ints, paired)),
        "bias": Flat(4 * ints["N"], 4),
        "residual": Matrix(columns),
        "y": Matrix(columns),
    }


def _same(*names: str) -> Callable[[Ints], dict[str, Shape]]:
    return lambda ints: {name: Matrix(ints["N"]) for name in names}


def _rope(ints: Ints) -> dict[str, Shape]:
    width = Matrix(ints["heads"] * ints["head_dim"])
    return {"x": width, "y": width, **_tables(ints)}


def _kv_write(ints: Ints) -> dict[str, Shape]:
    heads = ints["heads"]
    return {
        "x": Matrix(heads * ints["head_dim"]),
        "cache": Flat(cache_nbytes(ints, heads, KVKind(ints["kind"]))),
        "scales": _scales(ints, heads),
        **_tables(ints),
    }


def _attention(ints: Ints) -> dict[str, Shape]:
    heads, width = ints["kv_heads"], Matrix(ints["heads"] * ints["head_dim"])
    return {
        "q": width,
        "y": width,
        "k": Flat(cache_nbytes(ints, heads, KVKind.K)),
        "v": Flat(cache_nbytes(ints, heads, KVKind.V)),
        "k_scales": _scales(ints, heads),
        "v_scales": _scales(ints, heads),
        **_tables(ints),
    }


def _of_all_rows(ints: Ints) -> dict[str, Shape]:
    return {"x": Matrix(ints["N"], Rows.T), "y": Matrix(ints["N"])}


def _hadamard(ints: Ints) -> dict[str, Shape]:
    width = Matrix(ints["K"])
    signs = sum(ints[name] ** 2 for name in ("q", "r") if ints[name] > 1)
    return {"x": width, "signs": Flat(4 * signs, 4) if signs else Absent(), "y": width}


SHAPES: Mapping[str, Callable[[Ints], dict[str, Shape]]] = {
    "embed": _embed,
    "rms_norm": _norm,
    "rms_norm_quantize": _norm,
    "rms_norm_quantize_static": _norm,
    "quantize": _norm,
    "quantize_static": _norm,
    "linear": _linear,
    "add": _same("a", "b", "y"),
    "mul": _same("a", "b", "y"),
    "activate": _same("x", "y"),
    "swiglu": _same("gate", "up", "y"),
    "geglu_tanh": _same("gate", "up", "y"),
    "scale": _same("x", "y"),
    "soft_cap": _same("x", "y"),
    "rope": _rope,
    "kv_write": _kv_write,
    "attention": _attention,
    "attention_capped": _attention,
    "last_rows": _of_all_rows,
    "layer_norm": _norm,
    "layer_norm_quantize": _norm,
    "layer_norm_quantize_static": _norm,
    "embed_positions": _embed,
    "pool": _of_all_rows,
    "l2_normalize": _same("x", "y"),
    "hadamard": _hadamard,
    "head_norm": _head_norm,
}
