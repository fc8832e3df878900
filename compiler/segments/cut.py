"""Groups of nodes become segments: what each takes in and gives out, and its ModelProto without large tensors."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import onnx

from hearth.compiler.frontend.onnx.initializers import StoredTensor
from hearth.compiler.frontend.onnx.model import OnnxModel
from hearth.compiler.frontend.onnx.sessions import extract, reads
from hearth.compiler.segments.levels import Group

Types = Mapping[str, onnx.ValueInfoProto]


@dataclass(frozen=True)
class Part:
    """A group with its boundary: values in and out, and the initializers it reads, each in a fixed order."""

    group: Group
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    tensors: tuple[str, ...]


def cut_parts(
    model: OnnxModel, nodes: Sequence[int], groups: Sequence[Group], stored: Sequence[str]
) -> list[Part]:
    """The boundary of each group; groups number the nodes of `nodes`, which numbers those of the model.

    `stored` are initializers that are outputs of the graph: the first ONNX part gives them, made for that if need be.
    """
    wanted = {each.name for each in model.outputs}
    parts: list[Part] = []
    for group in reversed(groups):
        part = _part(model, [nodes[each] for each in group.nodes], group, wanted)
        wanted.update(part.inputs)
        parts.append(part)
    parts.reverse()
    if stored:
        _give(parts, tuple(stored))
    return parts


def _give(parts: list[Part], stored: tuple[str, ...]) -> None:
    kept = [place for place, part in enumerate(parts) if not part.group.native]
    if not kept:
        parts.insert(0, Part(Group(False, ()), (), stored, stored))
        return
    first = parts[kept[0]]
    tensors = tuple(dict.fromkeys((*first.tensors, *stored)))
    parts[kept[0]] = replace(first, outputs=(*first.outputs, *stored), tensors=tensors)


def _part(model: OnnxModel, nodes: list[int], group: Group, wanted: Collection[str]) -> Part:
    made = [name for index in nodes for name in model.nodes[index].outputs if name]
    own = set(made)
    read = dict.fromkeys(name for index in nodes for name in reads(model.nodes[index]))
    outside = [name for name in read if name not in own]
    return Part(
        Group(group.native, tuple(nodes)),
        tuple(name for name in outside if name not in model.initializers),
        tuple(name for name in made if name in wanted),
        tuple(name for name in outside if name in model.initializers),
    )


def segment_model(model: OnnxModel, part: Part, types: Types) -> onnx.ModelProto:
    """The part as a model of its own; large tensors are left to the section that holds them."""
    large = {name for name in part.tensors if isinstance(model.initializers[name], StoredTensor)}
    return extract(
        model,
        part.group.nodes,
        [types[name] for name in part.inputs],
        [types[name] for name in part.outputs],
        set(part.tensors) - large,
    )
