"""What an adapter may change in an archive: its packed linears, and which modules of the adapter belong to which."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from hearth.compiler.ir.tensors import F32
from hearth.compiler.ir.types import Static
from hearth.compiler.lora.change import Change
from hearth.compiler.lora.peft import LoraModule, PeftAdapter
from hearth.compiler.lora.turns import RowMap, map_of, well_formed
from hearth.compiler.transform.rotation import Map
from hearth.runtime.archive import Archive
from hearth.runtime.archive.format import refusal
from hearth.schemas import sections
from hearth.schemas.codec import loads
from hearth.schemas.commands import BY_NAME
from hearth.schemas.errors import ArchiveError, CheckpointError
from hearth.schemas.lora import LinearPart, LinearRecord, Linears
from hearth.schemas.program import Command, Operand
from hearth.schemas.weights_index import TensorEntry

AGAIN = "compile the checkpoint again with this version of hearth"


@dataclass(frozen=True, eq=False)
class Target:
    """A packed linear of an archive: its modules, what was done to them, and the static codes it reads, if they are."""

    parts: tuple[LinearPart, ...]
    tensor: TensorEntry
    change: Change
    static: Static | None


def find_targets(archive: Archive) -> Iterator[Target]:
    """The linears that adapters may change, each of a weight and of vectors and turns that are there.

    ArchiveError archive.no_adapters where there are none, archive.inconsistent for a forged record.
    """
    linears, vectors = _linears(archive), _vectors(archive)
    if not all(well_formed(turn, vectors) for turn in linears.turns):
        raise _inconsistent(archive, "a turn of the record of linears", "one of its vectors")
    turns = [map_of(turn, vectors) for turn in linears.turns]
    tensors = {tensor.name: tensor for tensor in archive.weights_index.tensors}
    statics = _statics(archive)
    for record in linears.linears:
        tensor = tensors.get(record.weight)
        if tensor is None or not _fits(record, tensor.shape, len(vectors), turns):
            found = f"the record of the linear {record.weight[:80]!r}"
            raise _inconsistent(archive, found, "a weight of the archive, its rows, its vectors")
        change = Change.of(record, tensor.shape, vectors, turns)
        yield Target(record.parts, tensor, change, statics.get(tensor.offset))


def _vectors(archive: Archive) -> F32:
    """What the record of linears refers to; nothing where the archive has no such section."""
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


def _fits(record: LinearRecord, shape: tuple[int, ...], vectors: int, turns: Sequence[Map]) -> bool:
    if len(shape) != 2:
        return False
    n, k = shape
    ends = [0, *(part.stop for part in record.parts)]
    follow = all(
        start == part.start < part.stop for start, part in zip(ends, record.parts, strict=False)
    )
    places = ((record.columns, k), (record.shift, k), (record.rows, n))
    inside = all(at < 0 or at + count <= vectors for at, count in places)
    return follow and ends[-1] <= n and inside and _turns_fit(record, n, k, turns)


def _turns_fit(record: LinearRecord, n: int, k: int, turns: Sequence[Map]) -> bool:
    columns, rows = record.turned_columns, record.turned_rows
    if columns >= 0 and (columns >= len(turns) or turns[columns].size != k):
        return False
    if rows is None:
        return True
    if rows.turn >= len(turns) or not rows.first < rows.last <= n:
        return False
    change = RowMap(rows.first, rows.last, turns[rows.turn])
    whole = LinearPart("", 0, n)
    return not any(map(change.cuts, (whole, *record.parts)))


def _linears(archive: Archive) -> Linears:
    if sections.LINEARS not in archive.entries:
        raise _no_adapters(archive, "it has no record of its linears", AGAIN)
    section = archive.section(sections.LINEARS)
    try:
        linears = loads(Linears, section, sections.LINEARS, str(archive.path))
    except ArchiveError as error:  # an earlier form: the section's hash is right
        what = f"its record of linears is of another version ({error.found})"
        raise _no_adapters(archive, what, AGAIN) from None
    if linears.refused:
        remedy = "compile the checkpoint without that, or with the adapter merged into it"
        raise _no_adapters(archive, linears.refused, remedy)
    return linears


def _no_adapters(archive: Archive, why: str, remedy: str) -> ArchiveError:
    where = str(archive.path)
    found = f"it takes no adapters: {why}"
    return ArchiveError("archive.no_adapters", found, where=where, remedy=remedy)


def _statics(archive: Archive) -> dict[int, Static]:
    """By the offset of a linear's weight the static codes it reads."""
    found: dict[int, Static] = {}
    for entry in archive.program.entries.values():
        coded: dict[int, Static] = {}
        for command in entry.commands:
            if BY_NAME[command.op].makes_static_codes:
                coded[_operand(command, -1).value] = _static(archive, command)
            elif command.op == "linear" and _operand(command, 0).value in coded:
                found[_operand(command, 1).offset] = coded[_operand(command, 0).value]
    return found


def _static(archive: Archive, command: Command) -> Static:
    """The codes that a command makes."""
    scale, zero = command.floats[-2:]
    try:
        return Static(scale, int(zero))
    except ValueError as error:
        found = f"a command {command.op} with scale {scale} and zero point {zero}"
        raise _inconsistent(archive, found, str(error)) from None


def _operand(command: Command, at: int) -> Operand:
    operand = command.operands[at]
    assert operand is not None
    return operand


def match(targets: Sequence[Target], adapter: PeftAdapter) -> dict[str, LoraModule]:
    """The adapter's modules by their names in the archive; CheckpointError lora.module, lora.shape for a misfit."""
    known = {part.module: part for target in targets for part in target.parts}
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
        for part in target.parts:
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
