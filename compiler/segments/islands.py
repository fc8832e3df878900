"""Native islands: which nodes leave onnxruntime, where that pays, and the IR graph of what they compute."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from hearth.compiler.frontend.onnx.model import Node, OnnxModel
from hearth.compiler.frontend.onnx.sessions import reads
from hearth.compiler.ir.graph import Graph
from hearth.compiler.ir.ops import Constant, Input, Op
from hearth.compiler.quantize.schemes import Scheme
from hearth.compiler.segments.cut import Part, Types, cut_parts
from hearth.compiler.segments.facts import Facts, NotNative
from hearth.compiler.segments.levels import Group, Space, partition
from hearth.compiler.segments.rules import NO_RULE, RULES, Native, native

# An island saves at least so many bytes of weights, or its nodes stay ONNX: each island costs a copy of rows in and
# out, and may cut a segment in two. Float models stay whole: native float weights take no fewer bytes.
LEAST_SAVED = 1 << 20
BITS = {"f32": 32, "f16": 16, "bf16": 16}


@dataclass(frozen=True)
class Chosen:
    """The row space of each node (None: ONNX), what the native ones are, and why the others are not.

    `other` is the reason of nodes that `reasons` does not list.
    """

    spaces: Sequence[Space]
    natives: Mapping[int, Native] = field(default_factory=dict)
    reasons: Mapping[Node, str] = field(default_factory=dict)
    other: str = ""


def choose(
    model: OnnxModel, nodes: Sequence[int], facts: Facts, scheme: Scheme, least: int = LEAST_SAVED
) -> Chosen:
    """The nodes (by their place in `nodes`) that become islands; none that saves fewer than `least` bytes."""
    natives: dict[int, Native] = {}
    reasons: dict[Node, str] = {}
    spaces: list[Space] = [None] * len(nodes)
    for place, index in enumerate(nodes):
        node = model.nodes[index]
        try:
            found = native(node, facts)
            spaces[place] = facts.keeps_rows(node.outputs[0], found.reads[0])
            natives[place] = found
        except NotNative as error:
            reasons[node] = str(error)
    needs = dependencies(model, nodes)
    while small := _small(partition(needs, spaces), natives, scheme, least):
        for place, saved in small.items():
            spaces[place] = None
            del natives[place]
            reasons[model.nodes[nodes[place]]] = (
                f"native would not pay: its island saves {saved} bytes of weights, less than {least}"
            )
    if not _crossing_is_tensors(model, nodes, partition(needs, spaces), facts.types):
        return Chosen([None] * len(nodes), other="a cut would pass values that are no tensors")
    return Chosen(spaces, natives, reasons)


def _crossing_is_tensors(
    model: OnnxModel, nodes: Sequence[int], groups: Sequence[Group], types: Types
) -> bool:
    """Whether all values that pass from one part to another are tensors."""
    if len(groups) < 2:
        return True
    return all(
        types[name].type.WhichOneof("value") == "tensor_type"
        for part in cut_parts(model, nodes, groups, ())
        for name in part.inputs
    )


def all_onnx(model: OnnxModel, nodes: Sequence[int]) -> Chosen:
    """No islands: the weights' scheme makes none smaller."""
    reasons = {node: NO_RULE for node in model.nodes if (node.domain, node.op_type) not in RULES}
    why = "native would not pay: its weights would take no fewer bytes"
    return Chosen([None] * len(nodes), reasons=reasons, other=why)


def dependencies(model: OnnxModel, nodes: Sequence[int]) -> list[set[int]]:
    """The places of the nodes whose values each node reads."""
    place = {name: at for at, index in enumerate(nodes) for name in model.nodes[index].outputs}
    return [{place[name] for name in reads(model.nodes[index]) if name in place} for index in nodes]


def _small(
    groups: Sequence[Group], natives: Mapping[int, Native], scheme: Scheme, least: int
) -> dict[int, int]:
    """The nodes of islands that do not pay, with what their island saves."""
    found: dict[int, int] = {}
    for group in groups:
        if group.native:
            weights = {weight for place in group.nodes for weight in natives[place].weights}
            saved = sum(_saved(weight, scheme) for weight in weights)
            if saved < least:
                found.update(dict.fromkeys(group.nodes, saved))
    return found


def _saved(weight: Constant, scheme: Scheme) -> int:
    value = weight.value
    before = BITS[value.stored] if hasattr(value, "stored") else scheme.weights.bits
    elements = int(np.prod(value.shape, dtype=np.int64))
    return elements * max(before - scheme.weights.bits, 0) // 8


def island_graph(
    model: OnnxModel,
    islands: Mapping[str, Part],
    natives: Mapping[int, Native],
    facts: Facts,
) -> Graph:
    """An entry for each island, inputs from the ports x0, x1, ..., results y0, y1, ... `natives` are by node number."""
    entries: dict[str, tuple[Op, ...]] = {}
    for name, part in islands.items():
        made: dict[str, Op] = {
            value: Input(f"x{at}", facts.columns(value)) for at, value in enumerate(part.inputs)
        }
        for index in part.group.nodes:
            made[model.nodes[index].outputs[0]] = natives[index].make(made.__getitem__)
        entries[name] = tuple(made[value] for value in part.outputs)
    results = {
        name: tuple(f"y{at}" for at in range(len(part.outputs))) for name, part in islands.items()
    }
    return Graph(entries, results)
