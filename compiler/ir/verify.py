"""The verifier that runs between passes: what a graph must satisfy beyond the types of its ops."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from hearth.compiler.ir.ops import (
    Attention,
    Cache,
    Constant,
    Embedding,
    Graph,
    IRError,
    KVWrite,
    LastRows,
    Linear,
    Op,
    Position,
    RMSNorm,
    RMSNormQuantize,
    RoPE,
    Tokens,
)
from hearth.compiler.ir.rewrite import all_outputs, order
from hearth.compiler.ir.types import CacheType, Dim, TensorType
from hearth.schemas.commands import KVKind
from hearth.schemas.dtypes import DType

CacheKey = tuple[int, KVKind]


def verify(graph: Graph) -> None:
    """Raises IRError naming the entry and the op that breaks a rule."""
    if not graph.entries:
        raise IRError("the graph has no entry")
    _check_constants(order(all_outputs(graph)))
    caches: dict[CacheKey, CacheType] = {}
    for name, outputs in graph.entries.items():
        sequence = order(outputs)
        try:
            _check_outputs(outputs)
            for check in _CHECKS:
                check(sequence)
            _check_caches(outputs, sequence, caches)
        except IRError as error:
            raise IRError(f"entry {name!r}: {error}") from None


def describe(op: Op) -> str:
    """An op in an error: its type, its result, and the constants it reads."""
    names = ", ".join(repr(x.name) for x in op.operands if isinstance(x, Constant))
    return f"{type(op).__name__}({names}) : {op.type}"


def _require(condition: bool, op: Op, what: str) -> None:
    if not condition:
        raise IRError(f"{describe(op)}: {what}")


def _check_constants(sequence: tuple[Op, ...]) -> None:
    """One name, one object; a constant is never empty."""
    seen: dict[str, Constant] = {}
    for op in sequence:
        if isinstance(op, Constant):
            _require(seen.setdefault(op.name, op) is op, op, "another constant has this name")
            _require(0 not in op.value.shape, op, "the constant is empty")


def _check_outputs(outputs: tuple[Op, ...]) -> None:
    """The logits f32[rows, V], then the caches as written."""
    if not outputs:
        raise IRError("no outputs")
    logits, *caches = outputs
    kind = logits.type
    _require(
        isinstance(kind, TensorType) and kind.dtype is DType.F32 and len(kind.shape) == 2,
        logits,
        "the first output must be the logits f32[rows, V]",
    )
    for cache in caches:
        _require(
            isinstance(cache, KVWrite), cache, "outputs after the first must be written caches"
        )


def _check_types(sequence: tuple[Op, ...]) -> None:
    """Types, inferred again from the operands, are those the ops carry."""
    for op in sequence:
        inferred = op.infer()
        _require(inferred == op.type, op, f"the operands give {inferred}")


def _check_sources(sequence: tuple[Op, ...]) -> None:
    """One Tokens, at most one Position per entry; weights, gains and tables are constants."""
    for kind in (Tokens, Position):
        for second in [op for op in sequence if isinstance(op, kind)][1:]:
            _require(False, second, f"a second {kind.__name__}")
    if not any(isinstance(op, Tokens) for op in sequence):
        raise IRError("the entry reads no Tokens")
    for op in sequence:
        for what, operand in _fixed_operands(op):
            _require(operand is None or isinstance(operand, Constant), op, f"{what} is no constant")


def _fixed_operands(op: Op) -> Iterator[tuple[str, Op | None]]:
    match op:
        case Embedding():
            yield "the table", op.table
            _require(isinstance(op.tokens, Tokens), op, "the indices are not Tokens")
        case Linear():
            yield "the weight", op.weight
            yield "the bias", op.bias
        case RMSNorm() | RMSNormQuantize():
            yield "the gain", op.gain
        case RoPE() | KVWrite() | Attention():
            yield "cos", op.cos
            yield "sin", op.sin
            _require(isinstance(op.position, Position), op, "the position is no Position")


def _check_rows(sequence: tuple[Op, ...]) -> None:
    """T and R never mix: R comes from LastRows of T alone, and an op reads rows of one kind."""
    tokens = next(op for op in sequence if isinstance(op, Tokens))
    for op in sequence:
        rows = {row for operand in op.operands if (row := _rows(operand)) is not None}
        match op:
            case LastRows() | KVWrite() | Attention() | RoPE():
                _require(rows == {tokens.rows}, op, f"must take {tokens.rows} rows, found {rows}")
            case _:
                _require(len(rows) <= 1, op, f"mixes rows {sorted(str(row) for row in rows)}")


def _rows(op: Op) -> int | Dim | None:
    """The rows of an activation; None for what has none (constants, caches, the position)."""
    kind = op.type
    if isinstance(op, Constant) or not isinstance(kind, TensorType) or not kind.shape:
        return None
    return kind.shape[0]


def _check_tables(sequence: tuple[Op, ...]) -> None:
    """RoPE tables cover every position that the cache holds."""
    contexts = [op.cache.context for op in sequence if isinstance(op, Cache)]
    for op in sequence:
        match op:
            case (
                RoPE(cos=Constant() as cos)
                | KVWrite(cos=Constant() as cos)
                | Attention(cos=Constant() as cos)
            ):
                positions = cos.value.shape[0]
                enough = all(positions >= context for context in contexts)
                _require(enough, op, f"tables end at {positions}, before the context {contexts}")


_CHECKS: tuple[Callable[[tuple[Op, ...]], None], ...] = (
    _check_types,
    _check_sources,
    _check_rows,
    _check_tables,
)


def _check_caches(
    outputs: tuple[Op, ...], sequence: tuple[Op, ...], seen: dict[CacheKey, CacheType]
) -> None:
    """Each cache is written once, read after its write, and has one type in every entry."""
    written: dict[CacheKey, KVWrite] = {}
    for op in sequence:
        match op:
            case KVWrite(cache=Cache(cache=kind)):
                key = (kind.layer, kind.kind)
                _require(written.setdefault(key, op) is op, op, "the cache is written twice")
                _require(seen.setdefault(key, kind) == kind, op, f"elsewhere it is {seen[key]}")
            case KVWrite():
                _require(False, op, "writes over another write")
            case Attention():
                _check_attention(op)
    for write in written.values():
        _require(outputs.count(write) == 1, write, "the written cache must be an output, once")
    for op in sequence:
        if isinstance(op, Cache):
            _require((op.cache.layer, op.cache.kind) in written, op, "the cache is never written")


def _check_attention(op: Attention) -> None:
    """K and V are the writes of one layer, coded alike."""
    k, v = op.k.type, op.v.type
    for which, operand in (("k", op.k), ("v", op.v)):
        _require(isinstance(operand, KVWrite), op, f"{which} is read before it is written")
    if not isinstance(k, CacheType) or not isinstance(v, CacheType):
        raise IRError(f"{describe(op)}: reads {k} and {v}, expected caches")
    _require((k.kind, v.kind) == (KVKind.K, KVKind.V), op, f"k is {k} and v is {v}")
    for field in ("layer", "heads", "context", "scheme"):
        _require(getattr(k, field) == getattr(v, field), op, f"{field} differs: {k} and {v}")
