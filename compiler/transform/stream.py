"""The residual stream of a decoder, found by what is added to what: its writers, its norms, its readers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import networkx as nx

from hearth.compiler.ir.graph import Graph
from hearth.compiler.ir.ops import (
    Add,
    Constant,
    Embedding,
    LastRows,
    LayerNorm,
    Linear,
    Op,
    PositionEmbedding,
    RMSNorm,
    Scale,
    tensor,
)
from hearth.compiler.ir.rewrite import all_outputs, order, users
from hearth.compiler.ir.tensors import Source, read
from hearth.schemas.commands import Activation
from hearth.schemas.errors import CheckpointError

Norm = RMSNorm | LayerNorm


@dataclass(frozen=True, eq=False)
class Stream:
    """`members`: the ops whose rows are in the stream's basis, norms included; `width` its columns E."""

    width: int
    members: frozenset[Op]
    centred: bool  # its norms take the mean off
    gains: dict[
        Op, Norm
    ]  # by linear: the norm before it, where its constants must move into the weight

    def reads(self, op: Op) -> bool:
        return isinstance(op, Linear) and op.x in self.members

    def writes(self, op: Op) -> bool:
        return op in self.members and isinstance(op, Linear | Embedding | PositionEmbedding)


def refused(what: str, where: str = "") -> CheckpointError:
    """The error of a model that the rotation does not fit."""
    return CheckpointError(
        "transform.rotate",
        what,
        expected="a decoder whose residual stream is written by embeddings and linears and read through norms",
        where=where,
        remedy="leave out the method 'quarot'",
    )


def residual_stream(graph: Graph) -> Stream:
    """The stream of all entries; CheckpointError `transform.rotate` where its basis cannot be changed."""
    ops, readers = order(all_outputs(graph)), users(graph)
    members = _members(ops)
    if not members:
        raise refused("the graph has no embedding, so no residual stream that starts in it")
    for op in members:
        _check_writer(op)
        for reader in readers.get(op, []):
            if reader not in members and not (isinstance(reader, Linear) and reader.x is op):
                raise refused(f"{type(reader).__name__} reads the residual stream", _place(reader))
    if members.intersection(all_outputs(graph)):
        raise refused("the residual stream itself is a result of the model")
    norms = [op for op in members if isinstance(op, Norm)]
    kinds = {type(op) for op in norms}
    if len(kinds) > 1:
        raise refused("the model has RMSNorm and LayerNorm")
    width = next(int(tensor(op).shape[1]) for op in ops if op in members and _is_table(op))
    gains = dict(_gains(norms, readers))
    return Stream(width, frozenset(members), kinds == {LayerNorm}, gains)


def _is_table(op: Op) -> bool:
    return isinstance(op, Embedding | PositionEmbedding)


def _members(ops: Iterable[Op]) -> set[Op]:
    """All that must be in one basis with what the embeddings give."""
    same: nx.Graph[Op] = nx.Graph()
    tables = []
    for op in ops:
        match op:
            case Embedding() | PositionEmbedding():
                same.add_node(op)
                tables.append(op)
            case Add(a=a, b=b):
                same.add_edges_from([(op, a), (op, b)])
            case Linear(residual=Op() as residual):
                same.add_edge(op, residual)
            case LastRows(x=x) | RMSNorm(x=x) | LayerNorm(x=x) | Scale(x=x):
                same.add_edge(op, x)
    return {op for table in tables for op in nx.node_connected_component(same, table)}


def _check_writer(op: Op) -> None:
    match op:
        case Embedding(table=Constant() as table) | PositionEmbedding(table=Constant() as table):
            require_floats(table)
        case Linear(weight=Constant() as weight, activation=Activation.NONE):
            require_floats(weight)
        case Add() | LastRows() | RMSNorm() | LayerNorm() | Scale() | Constant():
            pass
        case _:
            raise refused(f"{type(op).__name__} writes the residual stream", _place(op))


def require_floats(weight: Constant) -> Source:
    """The values of a weight; refused where it came quantised."""
    if not isinstance(weight.value, Source):
        raise refused("the weight came quantised", weight.name)
    return weight.value


def _gains(norms: Iterable[Norm], readers: Mapping[Op, list[Op]]) -> Iterator[tuple[Op, Norm]]:
    """(linear, norm) where the norm's constants must move into the linear; refused where something else reads it."""
    for norm in norms:
        if not moves(norm):
            continue
        fed = linears_fed(norm, readers)
        if fed is None:
            raise refused("a norm with a gain feeds the residual stream", _place(norm))
        yield from ((linear, norm) for linear in fed)


def moves(norm: Norm) -> bool:
    """Whether the norm has constants that a rotation does not commute with (one gain for all channels does)."""
    if isinstance(norm, LayerNorm):
        return norm.gain is not None or norm.bias is not None
    match norm.gain:
        case Constant(value=value) if isinstance(value, Source):
            gain = read(value)
            return bool((gain != gain[0]).any())
    return norm.gain is not None


def linears_fed(op: Op, readers: Mapping[Op, list[Op]]) -> tuple[Linear, ...] | None:
    """The linears that read op, or the last rows of it, as x; None where anything else reads it."""
    found: list[Linear] = []
    for reader in readers.get(op, []):
        match reader:
            case LastRows():
                more = linears_fed(reader, readers)
                if more is None:
                    return None
                found += more
            case Linear(x=x, residual=residual) if x is op and residual is not op:
                found.append(reader)
            case _:
                return None
    return tuple(found)


def _place(op: Op) -> str:
    names = (operand.name for operand in op.operands if isinstance(operand, Constant))
    return next(names, "")
