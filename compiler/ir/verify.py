"""The verifier that runs between passes: what a graph must satisfy beyond the types of its ops."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from hearth.compiler.ir.graph import Graph
from hearth.compiler.ir.ops import (
    Attention,
    Cache,
    Constant,
    Embedding,
    Hadamard,
    HeadNorm,
    Input,
    IRError,
    KVWrite,
    LastRows,
    LayerNorm,
    LayerNormQuantize,
    Linear,
    Op,
    Position,
    PositionEmbedding,
    Quantize,
    RMSNorm,
    RMSNormQuantize,
    RoPE,
    Tokens,
)
from hearth.compiler.ir.rewrite import all_outputs, order
from hearth.compiler.ir.types import CacheType, Dim, TensorType
from hearth.schemas.commands import KVKind, KVScheme
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
            _check_outputs(graph.names(name), outputs)
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


def _check_outputs(names: tuple[str, ...], outputs: tuple[Op, ...]) -> None:
    """The named matrices f32[rows, columns], then the caches as written."""
    if len(set(names)) != len(names) or not names:
        raise IRError(f"the results have the names {names}")
    if len(outputs) < len(names):
        raise IRError(f"no outputs for {', '.join(names[len(outputs) :])}")
    for name, result in zip(names, outputs, strict=False):
        kind = result.type
        _require(
            isinstance(kind, TensorType) and kind.dtype is DType.F32 and len(kind.shape) == 2,
            result,
            f"the output {name!r} must be a matrix f32[rows, columns]",
        )
    for cache in outputs[len(names) :]:
        _require(
            isinstance(cache, KVWrite), cache, "outputs after the results must be written caches"
        )


def _check_types(sequence: tuple[Op, ...]) -> None:
    """Types, inferred again from the operands, are those the ops carry."""
    for op in sequence:
        inferred = op.infer()
        _require(inferred == op.type, op, f"the operands give {inferred}")


def _check_sources(sequence: tuple[Op, ...]) -> None:
    """An op per port, at most one Position; weights, gains and tables are constants."""
    for second in [op for op in sequence if isinstance(op, Position)][1:]:
        _require(False, second, "a second Position")
    ports: set[str] = set()
    for op in sequence:
        if isinstance(op, Tokens | Input):
            _require(op.port not in ports, op, f"a second input {op.port!r}")
            ports.add(op.port)
    if not ports:
        raise IRError("the entry reads no Tokens and no Input")
    for op in sequence:
        for what, operand in _fixed_operands(op):
            _require(operand is None or isinstance(operand, Constant), op, f"{what} is no constant")


def _fixed_operands(op: Op) -> Iterator[tuple[str, Op | None]]:
    match op:
        case Embedding():
            yield "the table", op.table
            _require(isinstance(op.tokens, Tokens), op, "the indices are not Tokens")
        case PositionEmbedding():
            yield "the table", op.table
            _require(isinstance(op.position, Position), op, "the position is no Position")
        case Linear():
            yield "the weight", op.weight
            yield "the bias", op.bias
        case RMSNorm() | RMSNormQuantize() | HeadNorm():
            yield "the gain", op.gain
        case LayerNorm() | LayerNormQuantize():
            yield "the gain", op.gain
            yield "the bias", op.bias
        case Hadamard():
            yield "the signs", op.signs
        case RoPE() | KVWrite() | Attention():
            yield "cos", op.cos
            yield "sin", op.sin
            _require(isinstance(op.position, Position), op, "the position is no Position")


def _check_rows(sequence: tuple[Op, ...]) -> None:
    """T and R never mix: R comes from LastRows of T alone, and an op reads rows of one kind."""
    call = {op.rows for op in sequence if isinstance(op, Tokens | Input)}
    if len(call) > 1:
        raise IRError(
            f"the inputs have {', '.join(sorted(map(str, call)))} rows, expected one kind"
        )
    for op in sequence:
        rows = {row for operand in op.operands if (row := _rows(operand)) is not None}
        match op:
            case PositionEmbedding():
                _require({op.rows} == call, op, f"must give {call} rows")
            case LastRows() | KVWrite() | Attention() | RoPE():
                _require(rows == call, op, f"must take {call} rows, found {rows}")
            case _:
                _require(len(rows) <= 1, op, f"mixes rows {sorted(str(row) for row in rows)}")


def _rows(op: Op) -> int | Dim | None:
    """The rows of an activation; None for what has none (constants, caches, the position)."""
    kind = op.type
    if isinstance(op, Constant) or not isinstance(kind, TensorType) or not kind.shape:
        return None
    return kind.shape[0]


def _check_tables(sequence: tuple[Op, ...]) -> None:
    """Tables by position cover every position that the cache holds."""
    contexts = [op.cache.context for op in sequence if isinstance(op, Cache)]
    for op in sequence:
        match op:
            case (
                RoPE(cos=Constant() as table)
                | KVWrite(cos=Constant() as table)
                | Attention(cos=Constant() as table)
                | PositionEmbedding(table=Constant() as table)
            ):
                positions = table.value.shape[0]
                enough = all(positions >= context for context in contexts)
                _require(enough, op, f"tables end at {positions}, before the context {contexts}")


def _check_zero_points(sequence: tuple[Op, ...]) -> None:
    """Codes whose zero is not 0 are summed by linears with a bias that makes up for it."""
    for op in sequence:
        match op:
            case Linear(
                x=(Quantize() | RMSNormQuantize() | LayerNormQuantize()) as x, bias=None
            ) if x.static is not None:
                _require(x.static.zero == 0, op, "no bias for the zero point of its input")


_CHECKS: tuple[Callable[[tuple[Op, ...]], None], ...] = (
    _check_types,
    _check_sources,
    _check_rows,
    _check_tables,
    _check_zero_points,
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
    for kind in (k, v):
        fixed = kind.scheme is KVScheme.INT8_STATIC
        _require(fixed == (kind.static is not None), op, f"{kind} and static codes")
    for field in ("layer", "heads", "context", "scheme"):
        _require(getattr(k, field) == getattr(v, field), op, f"{field} differs: {k} and {v}")
