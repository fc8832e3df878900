"""A general graph becomes a plan: ports, steps, segments, and the section of their large tensors."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import onnx

from hearth.compiler.frontend.onnx.graph_source import GraphSource
from hearth.compiler.frontend.onnx.model import Node, OnnxModel
from hearth.compiler.frontend.onnx.sessions import needed, value_types
from hearth.compiler.segments.cut import Part, Types, cut_parts, segment_model
from hearth.compiler.segments.islands import Chosen, dependencies
from hearth.compiler.segments.levels import partition
from hearth.compiler.segments.tensors import TensorSection, lay_out
from hearth.compiler.segments.types import type_name
from hearth.schemas import sections
from hearth.schemas.graph import Engine, GraphPort, Operators, Plan, Step

MOST_REASONS = 200  # kept apart in the report; graphs with more have the rest in one line


@dataclass(frozen=True)
class Built:
    """The plan, the ModelProto of each ONNX section, the tensors, and the native parts by their entry's name."""

    plan: Plan
    segments: Mapping[str, bytes]
    tensors: TensorSection
    islands: Mapping[str, Part]


def build(source: GraphSource, nodes: Sequence[int], chosen: Chosen, types: Types) -> Built:
    """Cut the graph. `nodes` are those the outputs need, `chosen` says which of them are native."""
    model = source.model
    stored = [each.name for each in model.outputs if each.name in model.initializers]
    groups = partition(dependencies(model, nodes), chosen.spaces)
    parts = cut_parts(model, nodes, groups, stored)
    kept = [part for part in parts if not part.group.native]
    tensors = lay_out(model, {name for part in kept for name in part.tensors})
    segments: dict[str, bytes] = {}
    islands: dict[str, Part] = {}
    steps: list[Step] = []
    for part in parts:
        if part.group.native:
            name = f"island/{len(islands)}"
            islands[name] = part
            steps.append(Step(Engine.NATIVE, name, part.inputs, part.outputs))
        else:
            name = sections.onnx_section(len(segments))
            proto = segment_model(model, part, types)
            segments[name] = proto.SerializeToString(deterministic=True)
            numbers = sorted(
                tensors.numbers[each] for each in part.tensors if each in tensors.numbers
            )
            steps.append(Step(Engine.ONNX, name, part.inputs, part.outputs, tuple(numbers)))
    plan = Plan(
        tuple(map(_port, model.proto.graph.input)),
        tuple(_port(types[each.name]) for each in model.outputs),
        tuple(steps),
        tensors.tensors,
        tuple(_operators(source, chosen, parts)),
        tuple(_whole(source)),
    )
    return Built(plan, segments, tensors, islands)


def wanted_nodes(model: OnnxModel) -> list[int]:
    """The nodes that the outputs need."""
    return needed(model, [each.name for each in model.outputs], {})


def known_types(model: OnnxModel, everything: bool) -> Types:
    """The declared types of inputs and outputs; of all values where `everything`, or where an output has none."""
    graph = model.proto.graph
    known = {each.name: each for each in (*graph.input, *graph.output)}
    untyped = [each.name for each in graph.output if not each.type.WhichOneof("value")]
    if not everything and not untyped:
        return known
    found = value_types(model)
    return {**known, **found}


def _port(proto: onnx.ValueInfoProto) -> GraphPort:
    kind, shape = type_name(proto.type)
    return GraphPort(proto.name, kind, shape)


def _whole(source: GraphSource) -> list[str]:
    """Why the model was not raised as a whole, the first reasons of many."""
    return [f"{place}: {text}" for place, text in source.reasons.items()][:MOST_REASONS]


def _operators(source: GraphSource, chosen: Chosen, parts: Sequence[Part]) -> list[Operators]:
    """What runs where, and why: equal ones counted together, the many of a strange graph in one line."""
    counts: Counter[tuple[int, str, str]] = Counter()
    for number, part in enumerate(parts):
        for index in part.group.nodes:
            node = source.model.nodes[index]
            reason = "" if part.group.native else _reason(source, chosen, node)
            counts[number, _kind(node), reason] += 1
    if len(counts) > MOST_REASONS:
        merged: Counter[tuple[int, str, str]] = Counter()
        for (number, op, reason), count in counts.items():
            merged[number, op, reason and "several reasons"] += count
        counts = merged
    return [Operators(*key, reason) for key, reason in _flat(counts)]


def _reason(source: GraphSource, chosen: Chosen, node: Node) -> str:
    """What was in the way of this very node, else why it is in no island."""
    return source.reasons.get(node.title) or chosen.reasons.get(node, chosen.other)


def _flat(counts: Counter[tuple[int, str, str]]) -> list[tuple[tuple[int, str, int], str]]:
    ordered = sorted(counts.items(), key=lambda each: (each[0][0], -each[1], each[0]))
    return [((number, op, count), reason) for (number, op, reason), count in ordered]


def _kind(node: Node) -> str:
    return f"{node.domain}.{node.op_type}" if node.domain else node.op_type
