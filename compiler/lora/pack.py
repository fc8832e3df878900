"""A PEFT adapter becomes the data of an archive's section: for each packed linear A, its bias, and B in its blocks."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from hearth.compiler.ir.tensors import F32, ArraySource
from hearth.compiler.ir.types import Static
from hearth.compiler.lora.blocks import Slot, as_stored, blocks
from hearth.compiler.lora.peft import LoraModule, PeftAdapter
from hearth.compiler.lora.targets import Target, find_targets, match
from hearth.compiler.lower.blocks import ALIGN, Bytes, flat
from hearth.compiler.lower.layouts import LAYOUTS as PACKED
from hearth.compiler.quantize.coding import RoundedSource
from hearth.compiler.quantize.schemes import INT8
from hearth.runtime.archive import Archive
from hearth.schemas.lora import LAYOUTS, AdapterWeights, LinearPart, LoraLinear


@dataclass(frozen=True, eq=False)
class Packed:
    """Everything of the adapter's two sections."""

    linears: tuple[LoraLinear, ...]
    data: Bytes
    rank: int
    scaling: float
    parameters: int


def pack(archive: Archive, adapter: PeftAdapter, weights: AdapterWeights) -> Packed:
    """The adapter for this archive. CheckpointError lora.module, lora.shape, lora.range for what does not fit;
    ArchiveError archive.no_adapters where the archive takes none."""
    targets = list(find_targets(archive))
    matched = match(targets, adapter)
    room, linears = Room(), []
    for target in targets:
        if any(part.module in matched for part in target.parts):
            linears.append(pack_linear(target, matched, weights, room, adapter.where))
    modules = matched.values()
    scaling = Counter(module.scaling for module in modules).most_common(1)[0][0]
    return Packed(
        tuple(linears),
        room.whole(),
        max(len(module.a) for module in modules),
        scaling,
        sum(module.a.size + module.b.size for module in modules),
    )


@dataclass
class Room:
    """The data: pieces on 64-byte boundaries."""

    parts: list[Bytes] = field(default_factory=list)
    nbytes: int = 0

    def put(self, data: Bytes) -> int:
        """The offset of what is put."""
        at = self.nbytes
        padding = -len(data) % ALIGN
        self.parts += [data, np.zeros(padding, np.uint8)]
        self.nbytes += len(data) + padding
        return at

    def whole(self) -> Bytes:
        return np.concatenate(self.parts)


def pack_linear(
    target: Target,
    modules: Mapping[str, LoraModule],
    weights: AdapterWeights,
    room: Room,
    where: str,
) -> LoraLinear:
    """One packed linear's part of the data, put into the room; `where` is named by errors."""
    change, slots = target.change, list(_slots(target.parts, modules))
    source = np.concatenate([slot.module.a for slot in slots])
    packed, stored = _packed_a(change.of_a(source), weights, where)
    bias = _bias(source, stored, change.shift, target.static)
    b = blocks(slots, target, weights, where)
    return LoraLinear(
        target.tensor.name,
        target.tensor.offset,
        len(source),
        room.put(packed),
        -1 if bias is None else room.put(flat(bias)),
        room.put(b),
    )


def _slots(parts: Sequence[LinearPart], modules: Mapping[str, LoraModule]) -> Iterator[Slot]:
    first = 0
    for part in parts:
        module = modules.get(part.module)
        if module is not None:
            yield Slot(module, part.start, part.stop, first)
            first += len(module.a)


def _packed_a(a: F32, weights: AdapterWeights, where: str) -> tuple[Bytes, F32]:
    """The packed bytes, and the values they stand for."""
    layout = PACKED[LAYOUTS[weights]]
    if weights is AdapterWeights.INT8:
        coded = RoundedSource(ArraySource(a), INT8, 1)
        return _joined(layout.chunks(coded)), coded.quantised(0, len(a)).dequantise()
    stored = as_stored(a, weights, where)
    return _joined(layout.chunks(ArraySource(stored))), stored


def _joined(chunks: Iterator[Bytes]) -> Bytes:
    return np.concatenate(list(chunks))


def _bias(source: F32, stored: F32, shift: F32 | None, static: Static | None) -> F32 | None:
    """What A x needs besides: A times what the norm added, less what the zero point of static codes adds."""
    if shift is None and (static is None or static.zero == 0):
        return None
    bias = np.zeros(len(source))
    if shift is not None:
        bias += [math.fsum(row) for row in source.astype(np.float64) * shift]
    if static is not None:
        bias -= [static.scale * static.zero * math.fsum(row) for row in stored.astype(np.float64)]
    return bias.astype(np.float32)
