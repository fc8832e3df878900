"""QuaRot without its online parts: the residual stream and the value heads in a rotated basis, no op added.

After Ashkboos et al. 2024, arXiv:2404.00456: rms_norm(x R) = rms_norm(x) R for orthogonal R, so what writes the stream
is multiplied by R, what reads it by R^T, and the function stays. A value head is rotated in V's rows and undone in
o's columns, because attention only averages rows. Queries and keys stay as they are (RoPE does not commute).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from hearth.compiler.ir.graph import Graph
from hearth.compiler.ir.ops import (
    Add,
    Attention,
    Constant,
    Embedding,
    KVWrite,
    LayerNorm,
    Linear,
    Op,
    PositionEmbedding,
    RMSNorm,
    Slice,
    tensor,
)
from hearth.compiler.ir.rewrite import all_outputs, order, rewrite_each, users
from hearth.compiler.ir.tensors import ScaledColumnsSource, Source
from hearth.compiler.ir.types import CacheType
from hearth.compiler.passes.fold_norm_gain import FoldedBias
from hearth.compiler.transform.hadamard import factors
from hearth.compiler.transform.mixed import MappedRows, MixedRows, Slot
from hearth.compiler.transform.rotation import Centre, Chain, Map, rotation
from hearth.compiler.transform.stream import (
    Norm,
    Stream,
    linears_fed,
    moves,
    refused,
    require_floats,
    residual_stream,
)
from hearth.schemas.commands import Activation

HEAD_SEED = 1  # added to the seed: other signs than the stream's


def rotate(graph: Graph, seed: int = 0, *, stream: bool = True) -> Graph:
    """The same function (up to f32 rounding) of the same ops with other constants; prefill and decode share them.

    `stream` False rotates the value heads only. A table that is embedding and head at once becomes two constants
    where the last norm has a gain (see `rotation_notes`). CheckpointError `transform.rotate` for what does not fit.
    """
    plan = Plan()
    if stream:
        _plan_stream(plan, graph, residual_stream(graph), seed)
    _plan_heads(plan, graph, seed + HEAD_SEED)
    return rewrite_each(graph, plan.rewritten)


def rotation_notes(before: Graph, after: Graph) -> tuple[str, ...]:
    """What the person who compiles should know: the tables that a rotation had to store twice, with their values."""
    names = {op.name for op in order(all_outputs(before)) if isinstance(op, Constant)}
    new = [
        op
        for op in order(all_outputs(after))
        if isinstance(op, Constant) and op.name not in names and len(op.value.shape) == 2
    ]
    return tuple(
        f"rotation: {op.name} is stored beside the table it was one with"
        f" ({op.value.shape[0] * op.value.shape[1]} more parameters)"
        for op in new
    )


@dataclass(frozen=True)
class Mix:
    """Rows first..last of a weight, or values of its bias, under a map of equal spans."""

    first: int
    last: int
    map: Map


@dataclass(frozen=True)
class Change:
    """What happens to a weight: its columns take a norm's gain and bias, then a map; then rows are mixed."""

    norm: Norm | None = None
    columns: Map | None = None
    mix: Mix | None = None


@dataclass(eq=False)
class Plan:
    """The changes by op; new constants are shared by all ops that want the same change of the same constant."""

    changes: dict[Op, Change] = field(default_factory=dict)
    bare: set[Op] = field(default_factory=set)
    centred: bool = False
    slot: Slot = field(default_factory=Slot)
    made: dict[object, Constant] = field(default_factory=dict)
    names: set[str] = field(default_factory=set)

    def add(self, op: Op, **change: object) -> None:
        self.changes[op] = replace(self.changes.get(op, Change()), **change)  # type: ignore[arg-type]

    def rewritten(self, op: Op, rebuilt: Op) -> Op:
        """The op over other constants."""
        if op in self.bare:
            return _bare(rebuilt, self.centred)
        change = self.changes.get(op)
        match op, rebuilt:
            case _, _ if change is None:
                return rebuilt
            case ((Embedding() | PositionEmbedding()), (Embedding() | PositionEmbedding())):
                return replace(rebuilt, table=self._weight(_constant(op.table), change))
            case Linear(), Linear():
                weight = _constant(op.weight)
                bias = self._bias(op, weight, change)
                return replace(rebuilt, weight=self._weight(weight, change), bias=bias)
            case Add(), Add():
                return replace(rebuilt, b=self._vector(_constant(op.b), change))
        raise TypeError(f"{type(op).__name__} has no constants to change")

    def _weight(self, weight: Constant, change: Change) -> Constant:
        source = require_floats(weight)
        gain = None if change.norm is None else change.norm.gain
        if gain is not None:
            source = ScaledColumnsSource(source, require_floats(_constant(gain)))
        if change.columns is not None:
            source = MappedRows(source, change.columns)
        return self._made(
            weight.name, (weight, gain, change.columns, change.mix), self._mixed(source, change.mix)
        )

    def _bias(self, linear: Linear, weight: Constant, change: Change) -> Constant | None:
        """The bias mixed as the rows of the weight, with what the norm's bias adds to it."""
        bias = None if linear.bias is None else _constant(linear.bias)
        shift = change.norm.bias if isinstance(change.norm, LayerNorm) else None
        if shift is None:
            return None if bias is None else self._vector(bias, change)
        before = None if bias is None else require_floats(bias)
        source = FoldedBias(require_floats(weight), require_floats(_constant(shift)), before)
        name = f"{weight.name}.bias" if bias is None else bias.name
        return self._made(name, (weight, bias, shift, change.mix), self._mixed(source, change.mix))

    def _vector(self, vector: Constant, change: Change) -> Constant:
        source = require_floats(vector)
        return self._made(vector.name, (vector, change.mix), self._mixed(source, change.mix))

    def _mixed(self, source: Source, mix: Mix | None) -> Source:
        if mix is None:
            return source
        return MixedRows(source, mix.first, mix.last, mix.map, self.slot)

    def _made(self, name: str, key: object, source: Source) -> Constant:
        """The constant of this change, made once; the second of a name gets another."""
        if key not in self.made:
            unique = name if name not in self.names else f"{name}/untied"
            while unique in self.names:
                unique += "'"
            self.names.add(unique)
            self.made[key] = Constant(unique, source)
        return self.made[key]


def _constant(op: Op) -> Constant:
    if not isinstance(op, Constant):
        raise refused(f"a weight is made by {type(op).__name__}")
    return op


def _bare(norm: Op, centred: bool) -> Op:
    """The norm without constants; over a centred stream LayerNorm is RMSNorm."""
    match norm:
        case LayerNorm(x=x, eps=eps) if centred:
            return RMSNorm(x, None, eps)
        case RMSNorm():
            return replace(norm, gain=None)
    raise TypeError(f"{type(norm).__name__} is no norm")


def _plan_stream(plan: Plan, graph: Graph, stream: Stream, seed: int) -> None:
    order_of_block = factors(stream.width).order
    if order_of_block == 1:
        raise refused(f"no Hadamard matrix serves {stream.width} channels")
    turned = rotation(order_of_block, stream.width, seed)
    written: Map = Chain(Centre(stream.width), turned) if stream.centred else turned
    plan.centred = stream.centred
    for op in order(all_outputs(graph)):
        if op in stream.members and isinstance(op, Norm) and (stream.centred or moves(op)):
            plan.bare.add(op)
        if stream.reads(op):
            plan.add(op, norm=stream.gains.get(op), columns=turned)
        if stream.writes(op):
            if isinstance(op, Linear):
                plan.add(op, mix=Mix(0, stream.width, written))
            else:
                plan.add(op, columns=written)
        if op in stream.members and isinstance(op, Add) and isinstance(op.b, Constant):
            plan.add(op, mix=Mix(0, stream.width, written))


@dataclass(frozen=True, eq=False)
class ValueHeads:
    """The linear that makes the values (in its rows first..last), and the linears that read the attention."""

    values: Linear
    first: int
    last: int
    head_dim: int
    outputs: tuple[Linear, ...]


def value_heads(graph: Graph) -> Iterator[ValueHeads]:
    """Each attention whose values come straight from a linear and whose result goes into linears alone."""
    readers = users(graph)
    for op in order(all_outputs(graph)):
        if not isinstance(op, Attention):
            continue
        written, kind = op.v, op.v.type
        outputs = linears_fed(op, readers)
        if not isinstance(written, KVWrite) or not isinstance(kind, CacheType):
            continue
        found = _rows_of(written.x, readers)
        if found and outputs and written.cos is None:
            yield ValueHeads(*found, kind.head_dim, outputs)


def _rows_of(x: Op, readers: dict[Op, list[Op]]) -> tuple[Linear, int, int] | None:
    """The linear and the rows of its weight that make x, which nothing but caches may read."""
    if not all(isinstance(reader, KVWrite) for reader in readers[x]):
        return None
    match x:
        case Slice(x=Linear() as linear, start=start, stop=stop):
            others = (each for each in readers[linear] if each is not x)
            apart = all(
                isinstance(each, Slice) and (each.stop <= start or each.start >= stop)
                for each in others
            )
            found = (linear, start, stop) if apart else None
        case Linear() as linear:
            found = (linear, 0, int(tensor(linear.weight).shape[0]))
        case _:
            found = None
    plain = (
        found is not None and found[0].activation is Activation.NONE and found[0].residual is None
    )
    return found if plain else None


def _plan_heads(plan: Plan, graph: Graph, seed: int) -> None:
    turned: dict[
        tuple[int, int], Map
    ] = {}  # (block, size): heads share their signs, so that all rows of o fit all heads of v
    for heads in value_heads(graph):
        block = factors(heads.head_dim).order
        widths = {int(tensor(linear.weight).shape[1]) for linear in heads.outputs}
        for size in widths | {heads.head_dim}:
            if block > 1 and (block, size) not in turned:
                turned[block, size] = rotation(block, size, seed)
        if block > 1:
            plan.add(heads.values, mix=Mix(heads.first, heads.last, turned[block, heads.head_dim]))
            for linear in heads.outputs:
                plan.add(linear, columns=turned[block, int(tensor(linear.weight).shape[1])])
