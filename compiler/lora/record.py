"""Which modules of the source each packed linear holds, found by looking through what the passes put around them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from hearth.compiler.ir.graph import Graph
from hearth.compiler.ir.ops import Constant, Embedding, Linear, Op, PositionEmbedding
from hearth.compiler.ir.rewrite import all_outputs, order
from hearth.compiler.ir.tensors import (
    F32,
    ConcatGroupedSource,
    ConcatSource,
    ScaledColumnsSource,
    Source,
    read,
)
from hearth.compiler.lora.turns import Opaque, RowMap, Turns
from hearth.compiler.lora.vectors import NONE, Vectors
from hearth.compiler.lower import Lowered
from hearth.compiler.passes.fold_norm_gain import FoldedBias
from hearth.compiler.quantize.coding import RoundedSource
from hearth.compiler.quantize.sources import HalfSource
from hearth.compiler.transform.mixed import MappedRows, MixedRows, ScaledRows
from hearth.compiler.transform.rotation import Map
from hearth.schemas.lora import LinearPart, LinearRecord, Linears

SUFFIX = ".weight"


@dataclass(frozen=True, eq=False)
class Recorded:
    """What an archive says of its linears, and the vectors that it refers to by their offsets."""

    linears: Linears
    vectors: F32


@dataclass(frozen=True, eq=False)
class Seen:
    """A source of rows: its module, and what has been done to columns and rows since. None: nothing."""

    module: str
    n: int
    columns: F32 | None = None
    rows: F32 | None = None


@dataclass(frozen=True, eq=False)
class Turned:
    """A weight and what rotations made of it: of its columns and of its rows. None: nothing."""

    value: object
    columns: Map | None = None
    rows: RowMap | None = None


def record(source: Graph, transformed: Graph, final: Graph, lowered: Lowered) -> Recorded:
    """Of a decoder: `source` as the frontend made it, `transformed` before its weights were coded, `final` as lowered.

    A linear that cannot be followed is left out, and so is one whose table is an embedding's, too, or was; an adapter
    that wants it is refused by its name.
    """
    recorder = _Recorder(dict(_modules(source)))
    before = {each.weight.name: each for each in _linears(transformed)}
    names = [tensor.name for tensor in lowered.weights if tensor.layout is not None]
    tables = {op.table for op in order(all_outputs(final)) if isinstance(op, Embedding)}
    found: dict[str, LinearRecord] = {}
    for linear in _linears(final):
        name = linear.weight.name
        alone = names.count(name) == 1 and f"{name}#2" not in names
        if name in found or linear.weight in tables or not alone:
            continue
        try:
            found[name] = recorder.record(linear, before.get(name))
        except Opaque:
            continue
    return recorder.recorded(tuple(found.values()))


def refused(why: str) -> Recorded:
    """Of a model whose linears are not its modules."""
    return Recorded(Linears(why, (), ()), np.zeros(0, np.float32))


@dataclass(frozen=True, eq=False)
class _Linear:
    weight: Constant
    bias: Op | None


def _linears(graph: Graph) -> Iterator[_Linear]:
    for op in order(all_outputs(graph)):
        match op:
            case Linear(weight=Constant() as weight, bias=bias):
                yield _Linear(weight, bias)


def _modules(graph: Graph) -> Iterator[tuple[int, str]]:
    """The module of each weight of the source, by the identity of its values; embeddings are no linears."""
    ops = order(all_outputs(graph))
    tables = {op.table for op in ops if isinstance(op, Embedding | PositionEmbedding)}
    for op in (each for each in ops if each not in tables):
        if isinstance(op, Constant) and op.name.endswith(SUFFIX) and len(op.value.shape) == 2:
            yield id(op.value), op.name.removesuffix(SUFFIX)


class _Recorder:
    """Follows linears to their modules; what they name by numbers and offsets is kept once for all of them."""

    def __init__(self, modules: Mapping[int, str]) -> None:
        self.modules, self.vectors = modules, Vectors()
        self.turns = Turns(self.vectors)

    def record(self, linear: _Linear, before: _Linear | None) -> LinearRecord:
        """Opaque where it cannot be followed."""
        try:
            turned, seen = self._followed(linear.weight.value)
        except Opaque:  # codes that lie in a file: as the weight was before
            if before is None:
                raise
            turned, seen = self._followed(before.weight.value)
        parts = tuple(_parts(seen))
        if turned.rows is not None and any(map(turned.rows.cuts, parts)):
            raise Opaque
        shift = None if before is None else _shift(before.bias)
        return LinearRecord(
            linear.weight.name,
            parts,
            self.vectors.place(_same([each.columns for each in seen])),
            self.vectors.place(shift),
            self.vectors.place(_rows(seen)),
            NONE if turned.columns is None else self.turns.place(turned.columns),
            None if turned.rows is None else turned.rows.recorded(self.turns),
        )

    def recorded(self, linears: tuple[LinearRecord, ...]) -> Recorded:
        return Recorded(Linears("", tuple(self.turns.turns), linears), self.vectors.whole())

    def _followed(self, value: object) -> tuple[Turned, list[Seen]]:
        turned = _turned(Turned(value))
        return turned, list(_seen(turned.value, self.modules))


def _turned(found: Turned) -> Turned:
    """The weight without the rotations around it, which come after all other changes."""
    match found.value:
        case RoundedSource(source=inner) | HalfSource(source=inner):
            return _turned(replace(found, value=inner))
        case MappedRows(source=inner, map=kind) if found.columns is None:
            return _turned(replace(found, value=inner, columns=kind))
        case MixedRows(source=inner, first=first, last=last, map=kind) if found.rows is None:
            return _turned(replace(found, value=inner, rows=RowMap(first, last, kind)))
    return found


def _parts(seen: list[Seen]) -> Iterator[LinearPart]:
    start = 0
    for each in seen:
        yield LinearPart(each.module, start, start + each.n)
        start += each.n


def _seen(value: object, modules: Mapping[int, str]) -> Iterator[Seen]:
    """The modules of a weight from its first row to its last."""
    if id(value) in modules:
        yield Seen(modules[id(value)], int(getattr(value, "shape", (0,))[0]))
        return
    match value:
        case RoundedSource(source=inner) | HalfSource(source=inner):
            yield from _seen(inner, modules)
        case ConcatSource(parts=parts) | ConcatGroupedSource(parts=parts):
            for part in parts:
                yield from _seen(part, modules)
        case ScaledColumnsSource(source=inner, gain=gain):
            factors = read(gain)
            for each in _seen(inner, modules):
                yield Seen(each.module, each.n, _product(each.columns, factors), each.rows)
        case ScaledRows(source=inner):
            yield from _scaled_rows(value, inner, modules)
        case _:
            raise Opaque


def _scaled_rows(value: ScaledRows, inner: Source, modules: Mapping[int, str]) -> Iterator[Seen]:
    factors = np.ones(inner.shape[0], np.float32)
    factors[value.first : value.first + len(value.factors)] = value.factors
    start = 0
    for each in _seen(inner, modules):
        rows = _product(each.rows, factors[start : start + each.n])
        yield Seen(each.module, each.n, each.columns, rows)
        start += each.n


def _product(before: F32 | None, factors: F32) -> F32:
    return factors if before is None else np.asarray(before * factors, np.float32)


def _same(found: list[F32 | None]) -> F32 | None:
    """The one vector of all parts: they read the same rows."""
    first = found[0]
    for other in found[1:]:
        if (first is None) is not (other is None) or (
            first is not None and not np.array_equal(first, np.asarray(other))
        ):
            raise Opaque
    return first


def _rows(seen: list[Seen]) -> F32 | None:
    if all(each.rows is None for each in seen):
        return None
    parts = [np.ones(each.n, np.float32) if each.rows is None else each.rows for each in seen]
    return np.concatenate(parts)


def _shift(bias: Op | None) -> F32 | None:
    """What a norm adds to the rows, where that went into the bias."""
    return _shift_in(bias.value) if isinstance(bias, Constant) else None


def _shift_in(value: object) -> F32 | None:
    match value:
        case FoldedBias(weight=ScaledColumnsSource()):
            raise Opaque  # the shift is not of what the module reads
        case FoldedBias(shift=shift):
            return read(shift)
        case ScaledRows(source=inner) | MixedRows(source=inner):
            return _shift_in(inner)
        case ConcatSource(parts=parts):
            return _same([_shift_in(part) for part in parts])
    return None
