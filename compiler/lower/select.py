"""Selection: which command each op becomes, as a table from op type to contract, operands and attributes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from hearth.compiler.ir.ops import (
    Activate,
    Add,
    Attention,
    Constant,
    Embedding,
    Gated,
    Hadamard,
    HeadNorm,
    KVWrite,
    L2Normalize,
    LastRows,
    LayerNorm,
    LayerNormQuantize,
    Linear,
    Mul,
    Op,
    Pool,
    PositionEmbedding,
    Quantize,
    RMSNorm,
    RMSNormQuantize,
    RoPE,
    Scale,
    SoftCap,
    tensor,
)
from hearth.compiler.ir.types import CacheType, Static
from hearth.compiler.lower.weights import group_of
from hearth.schemas.commands import Activation, Layout
from hearth.schemas.dtypes import DType


@dataclass(frozen=True)
class Read:
    """Rows of another op's result."""

    op: Op


@dataclass(frozen=True)
class Packed:
    """A weight in the target's layout."""

    op: Op
    paired: bool = False


@dataclass(frozen=True)
class Plain:
    """A constant as plain f32: a gain, a bias, a table."""

    op: Op


@dataclass(frozen=True)
class Codes:
    """The cache that an op stands for."""

    op: Op


@dataclass(frozen=True)
class Scales:
    """The scales beside those codes; nothing where the scheme has none."""

    op: Op


@dataclass(frozen=True)
class Result:
    """The rows the command writes."""


Part = Read | Packed | Plain | Codes | Scales | Result | None
RESULT = Result()


@dataclass(frozen=True)
class Selection:
    """One command before its operands have places: parts in the contract's operand order."""

    contract: str
    parts: tuple[Part, ...]
    ints: tuple[int, ...] = ()
    floats: tuple[float, ...] = ()


Layouts = Mapping[DType, Layout]


def _plain(op: Op | None) -> Plain | None:
    return None if op is None else Plain(op)


def _columns(op: Op) -> int:
    columns = tensor(op).shape[-1]
    if not isinstance(columns, int):
        raise TypeError(f"{type(op).__name__} has unknown columns")
    return columns


def weight_of(op: Op) -> Constant:
    """A weight operand, which must be a constant."""
    if not isinstance(op, Constant):
        raise TypeError(f"{type(op).__name__} stands where a constant weight must")
    return op


def _weight_ints(op: Op, layouts: Layouts) -> tuple[int, int, int, int]:
    """N, K, layout, group of a weight."""
    constant = weight_of(op)
    n, k = constant.value.shape
    return n, k, int(layouts[tensor(op).dtype]), group_of(constant.value)


def _cache(op: Op) -> CacheType:
    if not isinstance(op.type, CacheType):
        raise TypeError(f"{type(op).__name__} is no cache")
    return op.type


def _rotary(table: Op | None) -> int:
    return 0 if table is None else 2 * _columns(table)


def _embedding(op: Embedding, layouts: Layouts) -> Selection:
    parts = (Read(op.tokens), Packed(op.table), RESULT)
    return Selection("embed", parts, _weight_ints(op.table, layouts))


def _position_embedding(op: PositionEmbedding, layouts: Layouts) -> Selection:
    parts = (Packed(op.table), RESULT)
    return Selection("embed_positions", parts, _weight_ints(op.table, layouts))


def _rms_norm(op: RMSNorm, layouts: Layouts) -> Selection:
    parts = (Read(op.x), _plain(op.gain), RESULT)
    return Selection("rms_norm", parts, (_columns(op.x),), (op.eps,))


def _head_norm(op: HeadNorm, layouts: Layouts) -> Selection:
    parts = (Read(op.x), _plain(op.gain), RESULT)
    return Selection("head_norm", parts, (op.heads, _columns(op) // op.heads), (op.eps,))


def _codes(static: Static | None) -> tuple[float, ...]:
    """The float attributes of static codes."""
    return () if static is None else (static.scale, float(static.zero))


def _coded(
    name: str, parts: tuple[Part, ...], k: int, floats: tuple[float, ...], static: Static | None
) -> Selection:
    """The contract that writes dynamic codes, or the one that writes static codes."""
    contract = name if static is None else f"{name}_static"
    return Selection(contract, parts, (k,), (*floats, *_codes(static)))


def _rms_norm_quantize(op: RMSNormQuantize, layouts: Layouts) -> Selection:
    parts = (Read(op.x), _plain(op.gain), RESULT)
    return _coded("rms_norm_quantize", parts, _columns(op.x), (op.eps,), op.static)


def _layer_norm(op: LayerNorm, layouts: Layouts) -> Selection:
    parts = (Read(op.x), _plain(op.gain), _plain(op.bias), RESULT)
    return Selection("layer_norm", parts, (_columns(op.x),), (op.eps,))


def _layer_norm_quantize(op: LayerNormQuantize, layouts: Layouts) -> Selection:
    parts = (Read(op.x), _plain(op.gain), _plain(op.bias), RESULT)
    return _coded("layer_norm_quantize", parts, _columns(op.x), (op.eps,), op.static)


def _quantize(op: Quantize, layouts: Layouts) -> Selection:
    return _coded("quantize", (Read(op.x), RESULT), _columns(op.x), (), op.static)


def _linear(op: Linear, layouts: Layouts) -> Selection:
    residual = None if op.residual is None else Read(op.residual)
    paired = op.activation.gate is not None
    parts = (Read(op.x), Packed(op.weight, paired), _plain(op.bias), residual, RESULT)
    return Selection("linear", parts, (*_weight_ints(op.weight, layouts), int(op.activation)))


def _add(op: Add, layouts: Layouts) -> Selection:
    vector = len(tensor(op.b).shape) == 1
    parts = (Read(op.a), Plain(op.b) if vector else Read(op.b), RESULT)
    return Selection("add", parts, (_columns(op),))


def _mul(op: Mul, layouts: Layouts) -> Selection:
    return Selection("mul", (Read(op.a), Read(op.b), RESULT), (_columns(op),))


def _activate(op: Activate, layouts: Layouts) -> Selection:
    return Selection("activate", (Read(op.x), RESULT), (_columns(op), int(op.activation)))


GATED: Mapping[Activation, str] = {
    Activation.SWIGLU: "swiglu",
    Activation.GEGLU_TANH: "geglu_tanh",
}


def _gated(op: Gated, layouts: Layouts) -> Selection:
    return Selection(GATED[op.activation], (Read(op.gate), Read(op.up), RESULT), (_columns(op),))


def _scale(op: Scale, layouts: Layouts) -> Selection:
    return Selection("scale", (Read(op.x), RESULT), (_columns(op),), (op.factor,))


def _soft_cap(op: SoftCap, layouts: Layouts) -> Selection:
    return Selection("soft_cap", (Read(op.x), RESULT), (_columns(op),), (op.cap,))


def _rope(op: RoPE, layouts: Layouts) -> Selection:
    ints = (op.heads, _columns(op) // op.heads, _rotary(op.cos))
    return Selection("rope", (Read(op.x), Plain(op.cos), Plain(op.sin), RESULT), ints)


def _kv_write(op: KVWrite, layouts: Layouts) -> Selection:
    cache = _cache(op)
    parts = (Read(op.x), _plain(op.cos), _plain(op.sin), Codes(op), Scales(op))
    ints = (cache.heads, cache.head_dim, _rotary(op.cos), cache.context)
    form = (int(cache.scheme), int(cache.kind))
    return Selection("kv_write", parts, (*ints, *form), _codes(cache.static))


def _attention(op: Attention, layouts: Layouts) -> Selection:
    cache = _cache(op.k)
    state = (Codes(op.k), Scales(op.k), Codes(op.v), Scales(op.v))
    parts = (Read(op.q), _plain(op.cos), _plain(op.sin), *state, RESULT)
    sizes = (op.heads, cache.heads, cache.head_dim, _rotary(op.cos), cache.context)
    ints = (*sizes, int(cache.scheme), op.window, int(op.causal))
    codes = (*_codes(cache.static), *_codes(_cache(op.v).static))
    if op.cap:
        return Selection("attention_capped", parts, ints, (op.scale, op.cap, *codes))
    return Selection("attention", parts, ints, (op.scale, *codes))


def _last_rows(op: LastRows, layouts: Layouts) -> Selection:
    return Selection("last_rows", (Read(op.x), RESULT), (_columns(op),))


def _pool(op: Pool, layouts: Layouts) -> Selection:
    return Selection("pool", (Read(op.x), RESULT), (_columns(op), int(op.kind)))


def _hadamard(op: Hadamard, layouts: Layouts) -> Selection:
    signs = None if op.signs is None else Plain(op.signs)
    return Selection("hadamard", (Read(op.x), signs, RESULT), (_columns(op), op.q, op.r, op.s))


def _l2_normalize(op: L2Normalize, layouts: Layouts) -> Selection:
    return Selection("l2_normalize", (Read(op.x), RESULT), (_columns(op),), (op.eps,))


RULES: Mapping[type[Op], Callable[[Any, Layouts], Selection]] = {
    Embedding: _embedding,
    PositionEmbedding: _position_embedding,
    RMSNorm: _rms_norm,
    RMSNormQuantize: _rms_norm_quantize,
    HeadNorm: _head_norm,
    LayerNorm: _layer_norm,
    LayerNormQuantize: _layer_norm_quantize,
    Quantize: _quantize,
    Linear: _linear,
    Add: _add,
    Mul: _mul,
    Activate: _activate,
    Gated: _gated,
    Scale: _scale,
    SoftCap: _soft_cap,
    RoPE: _rope,
    KVWrite: _kv_write,
    Attention: _attention,
    LastRows: _last_rows,
    Pool: _pool,
    L2Normalize: _l2_normalize,
    Hadamard: _hadamard,
}
