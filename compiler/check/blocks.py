"""A float graph run in onnxruntime block by block, so that the weights of one block are in memory, not a model's."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
from numpy.typing import NDArray

from hearth.compiler.frontend.sources import RowRange
from hearth.compiler.ir.graph import Graph
from hearth.compiler.ir.ops import (
    Cache,
    Constant,
    Embedding,
    Input,
    Linear,
    Op,
    Position,
    PositionEmbedding,
    Tokens,
    tensor,
)
from hearth.compiler.ir.rewrite import order
from hearth.compiler.ir.tensors import AnySource, GroupedSource, QuantisedSource, Source
from hearth.compiler.ir.to_onnx import to_onnx
from hearth.compiler.ir.types import CacheType, Dim
from hearth.compiler.memory import release
from hearth.runtime.graphs.onnx_engine import OnnxEngine, open_engine
from hearth.schemas.commands import Activation
from hearth.schemas.dtypes import DType

LIMIT_NBYTES = 64 << 20  # of a block's constants as f32
BLOCK = "block"
LOOKUPS = (Embedding, PositionEmbedding)
LEAVES = (Constant, Tokens, Position, Cache, Input)
F32 = NDArray[np.float32]
Ids = Mapping[str, NDArray[np.int32]]  # by port
Values = dict[Op, F32]


@dataclass(frozen=True, eq=False)
class Block:
    """Ops that run together; `inputs` were made by blocks before, `outputs` are read by blocks after.

    `dead` are values that no block after this one reads.
    """

    ops: tuple[Op, ...]
    inputs: tuple[Op, ...]
    outputs: tuple[Op, ...]
    dead: tuple[Op, ...]


def run_blocks(
    graph: Graph,
    entry: str,
    calls: Sequence[Ids],
    *,
    threads: int = 0,
    optimise: bool = True,
    advance: Callable[[int], None] = lambda _: None,
) -> list[tuple[F32, ...]]:
    """The results of an entry for each call, from position 0 on. `advance` hears of constants' elements done."""
    results = _results(graph, entry)
    steps = walk(graph, entry, calls, threads=threads, optimise=optimise, advance=advance)
    (held,) = deque(steps, maxlen=1)
    return [tuple(values[op] for op in results) for values in held]


def walk(
    graph: Graph,
    entry: str,
    calls: Sequence[Ids],
    *,
    watch: Collection[Op] = (),
    threads: int = 0,
    optimise: bool = True,
    advance: Callable[[int], None] = lambda _: None,
) -> Iterator[list[Values]]:
    """As run_blocks, block by block: after each the values that there are, a mapping for each call.

    Those of `watch` (float matrices) are there once, after the block that makes them or that reads them last; what
    is to be kept is the caller's to keep. The mappings are the same objects every time.
    """
    results = _results(graph, entry)
    held: list[Values] = [{} for _ in calls]
    for block in blocks(results, watch):
        for ids, values in zip(calls, held, strict=True):
            values |= {op: _rows(op, ids) for op in block.ops if isinstance(op, LOOKUPS)}
        for part in _parts(block):
            model = to_onnx(part.graph, BLOCK).SerializeToString()
            engine = open_engine(model, threads=threads, optimise=optimise, arena=False)
            del model
            for ids, values in zip(calls, held, strict=True):
                _run(engine, part, ids, values)
            del engine
        release()
        advance(sum(prod(op.value.shape) for op in block.ops if isinstance(op, Constant)))
        yield held
        for values in held:
            for op in block.dead:
                values.pop(op, None)


def largest_part(graph: Graph, entry: str) -> int:
    """Bytes, as f32, of the constants that one session holds at most while an entry is run."""
    parts = (part for block in blocks(_results(graph, entry)) for part in _parts(block))
    return max((_constants_nbytes(part.graph) for part in parts), default=0)


def _constants_nbytes(graph: Graph) -> int:
    return sum(
        4 * prod(op.value.shape) for op in order(graph.entries[BLOCK]) if isinstance(op, Constant)
    )


def _results(graph: Graph, entry: str) -> tuple[Op, ...]:
    return graph.entries[entry][: len(graph.names(entry))]


def blocks(results: Sequence[Op], watch: Collection[Op] = ()) -> Iterator[Block]:
    """Cut where only f32 matrices cross, as soon as the constants since the last cut exceed the limit."""
    sequence = order(results)
    last = {op: place for place, op in enumerate(sequence)}
    for place, op in enumerate(sequence):
        for operand in op.operands:
            last[operand] = place
    last |= dict.fromkeys(results, len(sequence))
    start, nbytes = 0, 0
    for place, op in enumerate(sequence):
        nbytes += 4 * prod(op.value.shape) if isinstance(op, Constant) else 0
        end = place + 1 == len(sequence)
        if end or (nbytes > LIMIT_NBYTES and _may_cut(sequence[start : place + 1], place, last)):
            yield _block(sequence, start, place + 1, last, watch)
            start, nbytes = place + 1, 0


def _may_cut(ops: Sequence[Op], place: int, last: Mapping[Op, int]) -> bool:
    """Caches and what is not a float matrix stay inside; a constant read but not used yet is taken along."""
    if isinstance(ops[-1], LEAVES):
        return False
    crossing = (op for op in ops if last[op] > place and not isinstance(op, LEAVES))
    return all(_is_matrix(op) for op in crossing)


def _is_matrix(op: Op) -> bool:
    return not isinstance(op.type, CacheType) and tensor(op).dtype is DType.F32


def _block(
    sequence: Sequence[Op],
    start: int,
    stop: int,
    last: Mapping[Op, int],
    watch: Collection[Op],
) -> Block:
    ops = sequence[start:stop]
    own = set(ops)
    read = dict.fromkeys(operand for op in ops for operand in op.operands)
    return Block(
        tuple(dict.fromkeys((*(each for each in read if isinstance(each, Constant)), *ops))),
        tuple(op for op in read if op not in own and not isinstance(op, LEAVES)),
        tuple(op for op in ops if (last[op] >= stop and not isinstance(op, LEAVES)) or op in watch),
        tuple(op for op in {*read, *ops} if last[op] < stop),
    )


@dataclass(frozen=True, eq=False)
class _Part:
    """What one session computes of a block: its graph, and which values it takes and gives, by name."""

    graph: Graph
    takes: Mapping[str, Op]
    gives: Mapping[str, Op]
    columns: slice | None = None  # of the one result, where a linear is done piece by piece


def _parts(block: Block) -> Iterator[_Part]:
    wanted = tuple(op for op in block.outputs if not isinstance(op, LOOKUPS))
    match [op for op in wanted if isinstance(op, Linear) and _is_wide(op)]:
        case [linear] if linear is wanted[-1]:  # nothing that is wanted is made of it
            others = dict.fromkeys((*wanted[:-1], linear.x))
            rest = tuple(op for op in others if op not in block.inputs and not _looked_up(op))
            if rest:
                yield _whole(block, rest)
            yield from _pieces(linear)
        case _ if wanted:
            yield _whole(block, wanted)


def _looked_up(op: Op) -> bool:
    return isinstance(op, LOOKUPS)


def _is_wide(op: Linear) -> bool:
    """A product too large for one block: a head over a large vocabulary."""
    plain = op.activation is Activation.NONE and op.bias is None and op.residual is None
    return (
        plain
        and isinstance(op.weight, Constant)
        and isinstance(op.weight.value, Source)
        and 4 * prod(op.weight.value.shape) > LIMIT_NBYTES
    )


def _pieces(linear: Linear) -> Iterator[_Part]:
    """The product over ranges of the weight's rows."""
    weight = linear.weight
    assert isinstance(weight, Constant)
    assert isinstance(weight.value, Source)
    n, k = weight.value.shape
    step = max(1, LIMIT_NBYTES // (4 * k))
    x = _input(linear.x, "x")
    for start in range(0, n, step):
        stop = min(start + step, n)
        piece = Linear(x, Constant(weight.name, RowRange(weight.value, start, stop)))
        graph = Graph({BLOCK: (piece,)}, {BLOCK: ("y",)})
        yield _Part(graph, {"x": linear.x}, {"y": linear}, slice(start, stop))


def _whole(block: Block, wanted: tuple[Op, ...]) -> _Part:
    """The ops of a block over inputs that stand for what it reads."""
    lookups = [op for op in block.ops if isinstance(op, LOOKUPS)]
    takes = {f"in{place}": op for place, op in enumerate((*block.inputs, *lookups))}
    new: dict[Op, Op] = {op: _input(op, name) for name, op in takes.items()}
    for op in block.ops:
        if op not in new:
            new[op] = op.with_operands(tuple(new.get(each, each) for each in op.operands))
    gives = {f"out{place}": op for place, op in enumerate(wanted)}
    outputs = tuple(new[op] for op in wanted)
    return _Part(Graph({BLOCK: outputs}, {BLOCK: tuple(gives)}), takes, gives)


def _input(op: Op, name: str) -> Input:
    rows, columns = tensor(op).shape
    assert isinstance(columns, int)
    return Input(name, columns, rows if isinstance(rows, int) else Dim.T)


def _rows(op: Embedding | PositionEmbedding, ids: Ids) -> F32:
    """The rows of a table that the tokens name, each read once; of positions the first."""
    assert isinstance(op.table, Constant)
    table = op.table.value
    if isinstance(op, PositionEmbedding):
        return float_rows(table, 0, len(next(iter(ids.values()))))
    assert isinstance(op.tokens, Tokens)
    unique, places = np.unique(ids[op.tokens.port], return_inverse=True)
    rows = [float_rows(table, int(each), int(each) + 1) for each in unique]
    return np.ascontiguousarray(np.concatenate(rows)[places])


def float_rows(source: AnySource, start: int, stop: int) -> F32:
    """Rows of a weight as the floats that its codes stand for, f32[stop - start, K]."""
    match source:
        case QuantisedSource():
            return source.quantised(start, stop).dequantise()
        case GroupedSource():
            return source.grouped(start, stop).dequantise()
        case _:
            return source.rows(start, stop)


def _run(engine: OnnxEngine, part: _Part, ids: Ids, values: Values) -> None:
    feeds: dict[str, NDArray[np.generic]] = {}
    shapes = {each.name: each.shape for each in engine.session.get_inputs()}
    for name in engine.inputs:
        if name in part.takes:
            feeds[name] = values[part.takes[name]]
        elif name in ids:
            feeds[name] = ids[name]
        elif name == "position":
            feeds[name] = np.array(0, np.int64)
        else:  # the past of a cache: none
            _, heads, _, head_dim = shapes[name]
            feeds[name] = np.zeros((1, heads, 0, head_dim), np.float32)
    names = list(part.gives)
    found = engine.run(feeds, names)
    for name, op in part.gives.items():
        if part.columns is None:
            values[op] = found[name]
        else:
            whole = values.setdefault(op, np.empty(_shape(op, found[name]), np.float32))
            whole[:, part.columns] = found[name]


def _shape(op: Op, piece: F32) -> tuple[int, int]:
    columns = tensor(op).shape[1]
    assert isinstance(columns, int)
    return len(piece), columns
