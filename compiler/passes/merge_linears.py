"""Linears over one input (q, k, v; gate, up) -> one Linear over stacked weights, and slices of its result."""

from __future__ import annotations

import os.path
from collections.abc import Sequence

import numpy as np

from hearth.compiler.ir.graph import Graph
from hearth.compiler.ir.ops import Activate, Constant, Linear, Op, Slice, tensor
from hearth.compiler.ir.rewrite import all_outputs, order, rewrite, users
from hearth.compiler.ir.tensors import (
    ArraySource,
    ConcatGroupedSource,
    ConcatSource,
    GroupedSource,
    Source,
)
from hearth.schemas.commands import Activation


def merged_name(names: Sequence[str]) -> str:
    """The parts that differ, joined: a.q.weight and a.k.weight give a.q+k.weight."""
    split = [name.split(".") for name in names]
    head = os.path.commonprefix(split)
    tail = os.path.commonprefix([parts[len(head) :][::-1] for parts in split])[::-1]
    middles = (".".join(parts[len(head) : len(parts) - len(tail)]) for parts in split)
    return ".".join((*head, "+".join(middles), *tail))


Weight = Source | GroupedSource


def _weight(linear: Linear) -> tuple[Constant, Weight] | None:
    match linear:
        case Linear(
            weight=Constant(value=value) as constant, residual=None, activation=Activation.NONE
        ) if isinstance(value, Source | GroupedSource):
            return constant, value
    return None


def _stacked(weights: Sequence[Weight]) -> Weight | None:
    """The weights one above the other; None where they are stored in different ways."""
    floats = tuple(weight for weight in weights if isinstance(weight, Source))
    grouped = tuple(weight for weight in weights if isinstance(weight, GroupedSource))
    if len(floats) == len(weights):
        same = len({weight.stored for weight in floats}) == 1
        return ConcatSource(floats) if same else None
    same = len({(weight.bits, weight.group) for weight in grouped}) == 1
    return ConcatGroupedSource(grouped) if same and len(grouped) == len(weights) else None


def _bias(linears: Sequence[Linear]) -> Op | None:
    """The stacked biases; zeros where a part has none."""
    if all(linear.bias is None for linear in linears):
        return None
    parts: list[Source] = []
    names: list[str] = []
    for linear in linears:
        match linear.bias:
            case Constant(name=name, value=value) if isinstance(value, Source):
                parts.append(value)
                names.append(name)
            case _:
                rows = int(tensor(linear.weight).shape[0])
                parts.append(ArraySource(np.zeros(rows, np.float32)))
    name = merged_name(names) if len(names) > 1 else f"{names[0]}+0"
    return Constant(name, ConcatSource(tuple(parts)))


def _merge(linears: Sequence[Linear], x: Op) -> Linear | None:
    weights = [found for linear in linears if (found := _weight(linear)) is not None]
    stacked = _stacked([source for _, source in weights])
    if len(weights) != len(linears) or stacked is None:
        return None
    name = merged_name([constant.name for constant, _ in weights])
    return Linear(x, Constant(name, stacked), _bias(linears))


def _groups(graph: Graph) -> list[list[Linear]]:
    """Linears that share their input and whose weight nothing else uses, in order of discovery.

    One that an activation alone reads stays by itself: the activation becomes a step of its epilogue.
    """
    readers = users(graph)
    groups: dict[Op, list[Linear]] = {}
    for op in order(all_outputs(graph)):
        match op, readers.get(op, []):
            case Linear(), [Activate()]:
                continue
            case Linear(), _ if _weight(op) and len(readers[op.weight]) == 1:
                groups.setdefault(op.x, []).append(op)
    return [group for group in groups.values() if len(group) > 1]


def merge_linears(graph: Graph) -> Graph:
    """One pass over the input and one stream of weights instead of two or three."""
    place: dict[Op, tuple[int, int, int]] = {}  # weight -> group, start, stop
    groups = _groups(graph)
    for index, group in enumerate(groups):
        start = 0
        for linear in group:
            rows = int(tensor(linear.weight).shape[0])
            place[linear.weight] = (index, start, start + rows)
            start += rows
    merged: dict[int, Linear | None] = {}

    def rule(op: Op) -> Op | None:
        if not isinstance(op, Linear) or op.weight not in place:
            return None
        index, start, stop = place[op.weight]
        if index not in merged:
            merged[index] = _merge(groups[index], op.x)
        whole = merged[index]
        return None if whole is None else Slice(whole, start, stop)

    return rewrite(graph, rule) if place else graph
