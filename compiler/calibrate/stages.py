"""A float graph cut where its linears read: the inputs of one group of linears after the other."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from hearth.compiler.ir.graph import Graph
from hearth.compiler.ir.ops import (
    Cache,
    Constant,
    Embedding,
    Input,
    KVWrite,
    LastRows,
    Linear,
    Op,
    Position,
    PositionEmbedding,
    RoPE,
    Tokens,
    tensor,
)
from hearth.compiler.ir.rewrite import order, rewrite
from hearth.compiler.ir.types import CacheType
from hearth.schemas.commands import KVKind, KVScheme
from hearth.schemas.dtypes import DType

LOOKUPS = (Embedding, PositionEmbedding)
LEAVES = (Constant, Tokens, Position, Cache, Input)


@dataclass(frozen=True, eq=False)
class Stored:
    """What a cache half is given, after RoPE: `rows` f32[T, Hkv * D]."""

    layer: int
    kind: KVKind
    rows: Op


@dataclass(frozen=True, eq=False)
class Stage:
    """The linears that read `x`, and what is computed from them on.

    `takes` are matrices made before, `gives` those that are read later (the next stage's x among them); `last` marks
    those of `takes` that no later stage reads. The first stage has no linears, the last one gives nothing.
    """

    x: Op | None
    linears: tuple[Linear, ...]
    takes: tuple[Op, ...]
    gives: tuple[Op, ...]
    dead: tuple[Op, ...]
    lookups: tuple[Op, ...]
    stored: tuple[Stored, ...]


def every_row(graph: Graph, entry: str) -> tuple[Op, ...]:
    """The results of an entry for all its rows, over caches of floats."""

    def rule(op: Op) -> Op | None:
        match op:
            case LastRows(x=x):
                return x
            case Cache(cache=kind) if kind.scheme is not KVScheme.F32:
                return replace(op, cache=replace(kind, scheme=KVScheme.F32))
        return None

    results = graph.entries[entry][: len(graph.names(entry))]
    return rewrite(Graph({entry: results}, graph.results), rule).entries[entry]


def stages(results: Sequence[Op], wanted: Collection[str]) -> tuple[Stage, ...]:
    """Cut before each linear that is the first to read its input; only linears of the weights named count."""
    sequence = order(results)
    groups = _groups(sequence, wanted)
    first = {x: min(sequence.index(each) for each in group) for x, group in groups.items()}
    starts = sorted(first.values())
    by_start = {first[x]: x for x in groups}
    cuts = [0, *starts, len(sequence)]
    last = _last_uses(sequence, groups, first)
    found = []
    for number in range(len(cuts) - 1):
        start, stop = cuts[number], cuts[number + 1]
        final = number == len(cuts) - 2  # nothing is read after the last input
        x = by_start.get(start) if number else None
        found.append(_stage(sequence, start, start if final else stop, last, x, groups))
    return tuple(found)


def _groups(sequence: Sequence[Op], wanted: Collection[str]) -> dict[Op, list[Linear]]:
    groups: dict[Op, list[Linear]] = {}
    for op in sequence:
        if isinstance(op, Linear) and isinstance(op.weight, Constant) and op.weight.name in wanted:
            groups.setdefault(op.x, []).append(op)
    return groups


def _last_uses(
    sequence: Sequence[Op], groups: Mapping[Op, list[Linear]], first: Mapping[Op, int]
) -> dict[Op, int]:
    """The place of the last op that reads each op; an input of linears is read where its first one is, too."""
    last: dict[Op, int] = {}
    end = max(first.values(), default=len(sequence))
    for place, op in enumerate(sequence):
        for operand in op.operands:
            if place < end:
                last[operand] = place
    for x in groups:
        last[x] = max(last.get(x, -1), first[x])
    return last


def _stage(
    sequence: Sequence[Op],
    start: int,
    stop: int,
    last: Mapping[Op, int],
    x: Op | None,
    groups: Mapping[Op, list[Linear]],
) -> Stage:
    ops = sequence[start:stop]
    own = set(ops)
    read = dict.fromkeys(operand for op in ops for operand in op.operands)
    takes = tuple(op for op in read if op not in own and not isinstance(op, LEAVES))
    gives = tuple(op for op in ops if last.get(op, -1) >= stop and not isinstance(op, LEAVES))
    for op in (*takes, *gives):
        if isinstance(op.type, CacheType) or tensor(op).dtype is not DType.F32:
            raise TypeError(f"{type(op).__name__} {op.type} crosses from one stage to another")
    return Stage(
        x,
        () if x is None else tuple(groups[x]),
        takes,
        gives,
        tuple(op for op in dict.fromkeys((*takes, *((x,) if x else ()))) if last[op] < stop),
        tuple(op for op in ops if isinstance(op, LOOKUPS)),
        tuple(_stored(op) for op in ops if isinstance(op, KVWrite)),
    )


def _stored(write: KVWrite) -> Stored:
    kind = write.type
    assert isinstance(kind, CacheType)
    rows = write.x
    if write.cos is not None and write.sin is not None:
        rows = RoPE(write.x, write.cos, write.sin, write.position, kind.heads)
    return Stored(kind.layer, kind.kind, rows)
