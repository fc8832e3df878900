"""A PEFT adapter becomes the data of an archive's section: for each packed linear A, its bias, and B in its blocks."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from hearth.compiler.ir.tensors import F32, ArraySource
from hearth.compiler.lora.peft import LoraModule, PeftAdapter
from hearth.compiler.lower.blocks import ALIGN, CHANNELS, Bytes, flat, halves, round_up
from hearth.compiler.lower.layouts import LAYOUTS as PACKED
from hearth.compiler.quantize.coding import RoundedSource
from hearth.compiler.quantize.rtn import rtn
from hearth.compiler.quantize.schemes import INT8
from hearth.runtime.archive import Archive
from hearth.runtime.archive.format import refusal
from hearth.schemas import sections
from hearth.schemas.codec import loads
from hearth.schemas.errors import ArchiveError, CheckpointError
from hearth.schemas.lora import (
    LAYOUTS,
    AdapterWeights,
    LinearPart,
    LinearRecord,
    Linears,
    LoraLinear,
)
from hearth.schemas.program import Command, Operand
from hearth.schemas.weights_index import TensorEntry

HALF_MOST = 65504.0


@dataclass(frozen=True)
class Static:
    """Static codes of a linear's input: x = scale * (code - zero)."""

    scale: float
    zero: float


@dataclass(frozen=True)
class Target:
    """A packed linear of an archive, and the codes it reads where they are static."""

    record: LinearRecord
    tensor: TensorEntry
    static: Static | None


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
    vectors = _vectors(archive)
    targets = list(_targets(archive, len(vectors)))
    matched = _matched(targets, adapter)
    room, linears = Room(), []
    for target in targets:
        if any(part.module in matched for part in target.record.parts):
            linears.append(pack_linear(target, matched, vectors, weights, room, adapter.where))
    modules = matched.values()
    scaling = Counter(module.scaling for module in modules).most_common(1)[0][0]
    return Packed(
        tuple(linears),
        room.whole(),
        max(len(module.a) for module in modules),
        scaling,
        sum(module.a.size + module.b.size for module in modules),
    )


def _vectors(archive: Archive) -> F32:
    """What the record of linears refers to; nothing where the archive has no such record."""
    if sections.LINEAR_VECTORS not in archive.entries:
        return np.zeros(0, np.float32)
    data = archive.section(sections.LINEAR_VECTORS)
    if data.nbytes % 4:
        raise _inconsistent(archive, f"{sections.LINEAR_VECTORS} has {data.nbytes} bytes", "f32")
    vectors = np.frombuffer(data, "<f4")
    if not np.isfinite(vectors).all():
        raise _inconsistent(archive, f"{sections.LINEAR_VECTORS} has infinities", "finite values")
    return vectors


def _inconsistent(archive: Archive, found: str, expected: str) -> ArchiveError:
    remedy = "the archive was not written by hearth, or by a faulty version; compile it again"
    return refusal("inconsistent", found, expected, str(archive.path), remedy)


def _targets(archive: Archive, vectors: int) -> Iterator[Target]:
    """The linears that adapters may change, each of a weight that is there and of vectors that there are."""
    where, again = str(archive.path), "compile the model again with this version of hearth"
    if sections.LINEARS not in archive.entries:
        raise ArchiveError(
            "archive.no_adapters",
            "it has no record of its linears, so it takes no adapters",
            where=where,
            remedy=f"{again}; only decoders made of checkpoints have one",
        )
    linears = loads(Linears, archive.section(sections.LINEARS), sections.LINEARS, where)
    if linears.refused:
        raise ArchiveError(
            "archive.no_adapters",
            f"it takes no adapters: {linears.refused}",
            where=where,
            remedy="compile the checkpoint without that, or with the adapter merged into it",
        )
    tensors = {tensor.name: tensor for tensor in archive.weights_index.tensors}
    statics = _statics(archive)
    for record in linears.linears:
        tensor = tensors.get(record.weight)
        if tensor is None or not _fits(record, tensor.shape, vectors):
            found = f"the record of the linear {record.weight[:80]!r}"
            raise _inconsistent(archive, found, "a weight of the archive, its rows, its vectors")
        yield Target(record, tensor, statics.get(tensor.offset))


def _fits(record: LinearRecord, shape: tuple[int, ...], vectors: int) -> bool:
    if len(shape) != 2:
        return False
    n, k = shape
    ends = [0, *(part.stop for part in record.parts)]
    follow = all(
        start == part.start < part.stop for start, part in zip(ends, record.parts, strict=False)
    )
    places = ((record.columns, k), (record.shift, k), (record.rows, n))
    return follow and ends[-1] <= n and all(at < 0 or at + count <= vectors for at, count in places)


def _statics(archive: Archive) -> dict[int, Static]:
    """By the offset of a linear's weight the static codes it reads."""
    found: dict[int, Static] = {}
    for entry in archive.program.entries.values():
        coded: dict[int, Static] = {}
        for command in entry.commands:
            if command.op.endswith("quantize_static"):
                scale, zero = command.floats[-2:]
                coded[_operand(command, -1).value] = Static(scale, zero)
            elif command.op == "linear" and _operand(command, 0).value in coded:
                found[_operand(command, 1).offset] = coded[_operand(command, 0).value]
    return found


def _operand(command: Command, at: int) -> Operand:
    operand = command.operands[at]
    assert operand is not None
    return operand


def _matched(targets: Sequence[Target], adapter: PeftAdapter) -> dict[str, LoraModule]:
    """The adapter's modules by their names in the archive; none may be left over."""
    known = {part.module: part for target in targets for part in target.record.parts}
    found: dict[str, LoraModule] = {}
    for name, module in adapter.modules.items():
        ends = [each for each in known if each == name or each.endswith(f".{name}")]
        ends = [name] if name in known else ends
        if len(ends) != 1:
            raise CheckpointError(
                "lora.module",
                f"the adapter changes {name!r}",
                expected="linears of the blocks of this archive's model, "
                f"such as {next(iter(known), 'none')!r}",
                where=adapter.where,
                remedy="use an adapter of the model that the archive was compiled from",
            )
        found[ends[0]] = module
    for target in targets:
        for part in target.record.parts:
            if part.module in found:
                _check_shape(found[part.module], part, target, adapter.where)
    return found


def _check_shape(module: LoraModule, part: LinearPart, target: Target, where: str) -> None:
    n, k = part.stop - part.start, target.tensor.shape[1]
    for side, shape, wanted in (("A", module.a.shape[1], k), ("B", module.b.shape[0], n)):
        if shape != wanted:
            raise CheckpointError(
                "lora.shape",
                f"lora_{side} of {module.name!r} is for {shape} values",
                expected=f"{wanted}, as the module has",
                where=where,
                remedy="use an adapter of the model that the archive was compiled from",
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


@dataclass(frozen=True, eq=False)
class Slot:
    """A module's place in a packed linear: its rows of the weight, its ranks of A."""

    module: LoraModule
    start: int
    stop: int
    first: int

    @property
    def last(self) -> int:
        return self.first + len(self.module.a)


def pack_linear(
    target: Target,
    modules: Mapping[str, LoraModule],
    vectors: F32,
    weights: AdapterWeights,
    room: Room,
    where: str,
) -> LoraLinear:
    """One packed linear's part of the data, put into the room; `where` is named by errors."""
    record, (n, k) = target.record, target.tensor.shape
    columns, shift, rows = (
        _vector(vectors, at, count)
        for at, count in ((record.columns, k), (record.shift, k), (record.rows, n))
    )
    slots = list(_slots(record, modules))
    source = np.concatenate([slot.module.a for slot in slots])
    a = source if columns is None else np.asarray(source * columns, np.float32)
    packed, stored = _packed_a(a, weights, where)
    bias = _bias(source, stored, shift, target.static)
    b = _blocks(slots, n, rows, target.tensor.paired, weights, where)
    return LoraLinear(
        record.weight,
        target.tensor.offset,
        len(a),
        room.put(packed),
        -1 if bias is None else room.put(flat(bias)),
        room.put(b),
    )


def _vector(vectors: F32, at: int, count: int) -> F32 | None:
    return None if at < 0 else np.asarray(vectors[at : at + count], np.float32)


def _slots(record: LinearRecord, modules: Mapping[str, LoraModule]) -> Iterator[Slot]:
    first = 0
    for part in record.parts:
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
    stored = _stored(a, weights, where)
    return _joined(layout.chunks(ArraySource(stored))), stored


def _joined(chunks: Iterator[Bytes]) -> Bytes:
    return np.concatenate(list(chunks))


def _stored(values: F32, weights: AdapterWeights, where: str) -> F32:
    """f32 of the floats that are stored."""
    if weights is AdapterWeights.F32:
        return values
    if not np.abs(values).max(initial=0.0) <= HALF_MOST:
        raise CheckpointError(
            "lora.range",
            f"a value of magnitude {float(np.abs(values).max()):.6g}",
            expected=f"at most {HALF_MOST:.0f} for f16",
            where=where,
            remedy="use --weights int8 or f32",
        )
    return values.astype(np.float16).astype(np.float32)


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


def _blocks(
    slots: Sequence[Slot],
    n: int,
    rows: F32 | None,
    paired: bool,
    weights: AdapterWeights,
    where: str,
) -> Bytes:
    """i32[blocks][2] of (first rank, ranks), then of each block that has any its values [ranks][16] and scales."""
    coded = [_coded(slot, rows, weights, where) for slot in slots]
    table, pieces = [], []
    for start, stop in _ranges(n, paired):
        inside = [
            (slot, values, scale)
            for slot, (values, scale) in zip(slots, coded, strict=True)
            if slot.start < stop and start < slot.stop
        ]
        first = min((slot.first for slot, _, _ in inside), default=0)
        last = max((slot.last for slot, _, _ in inside), default=0)
        table.append((first, last - first))
        if not inside:
            continue
        block = np.zeros((last - first, CHANNELS), inside[0][1].dtype)
        scales = np.zeros(CHANNELS, np.float32)
        for slot, values, scale in inside:
            low, high = max(start, slot.start), min(stop, slot.stop)
            part = slice(low - slot.start, high - slot.start)
            at = slice(low - start, high - start)
            block[slot.first - first : slot.last - first, at] = values[part].T
            scales[at] = scale[part]
        pieces.append(flat(block))
        if weights is AdapterWeights.INT8:
            pieces.append(flat(scales))
    head = flat(np.asarray(table, "<i4"))
    padding = np.zeros(round_up(len(head), ALIGN) - len(head), np.uint8)
    return np.concatenate([head, padding, *pieces])


def _ranges(n: int, paired: bool) -> Iterator[tuple[int, int]]:
    """The rows of each block of 16 channels, in packed order."""
    parts = halves(n, paired)
    for low in range(0, parts[0][1] - parts[0][0], CHANNELS):
        for start, stop in parts:
            yield start + low, min(start + low + CHANNELS, stop)


def _coded(
    slot: Slot, rows: F32 | None, weights: AdapterWeights, where: str
) -> tuple[NDArray[np.generic], F32]:
    """B [N, r] as stored, scaling and factors of rows in it; and scale f32[N] of int8."""
    b = np.asarray(slot.module.b * np.float32(slot.module.scaling), np.float32)
    if rows is not None:
        b = np.asarray(b * rows[slot.start : slot.stop, None], np.float32)
    if weights is AdapterWeights.INT8:
        found = rtn(b, INT8, threads=1)
        return found.codes, found.scale
    kind = np.float16 if weights is AdapterWeights.F16 else np.float32
    return _stored(b, weights, where).astype(kind), np.zeros(len(b), np.float32)
