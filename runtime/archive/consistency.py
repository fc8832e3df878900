"""The parts of an archive agree: sizes, operands inside their regions, commands shaped like their contracts.

This keeps a damaged or hostile archive from making the executor touch memory outside its regions by an
operand; that buffers are not clobbered is proven when the archive is made.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from hearth.runtime.archive.format import missing, refusal
from hearth.schemas.commands import BY_NAME
from hearth.schemas.errors import ArchiveError
from hearth.schemas.kv_layout import KVLayout
from hearth.schemas.manifest import Manifest
from hearth.schemas.program import Command, Entry, Operand, Program, Region, Rows
from hearth.schemas.sections import FORMAT_VERSION, Section, weights_section
from hearth.schemas.weights_index import WeightsIndex


@dataclass(frozen=True)
class Parts:
    """The decoded parts of one archive, and where its sections lie."""

    manifest: Manifest
    program: Program
    kv: KVLayout
    index: WeightsIndex
    sections: Mapping[str, Section]
    where: str


def check_consistency(parts: Parts) -> None:
    """Refuses the first disagreement between the parts: ArchiveError archive.inconsistent."""
    _check_manifest(parts)
    _check_weights(parts)
    _check_kv(parts)
    for name, entry in parts.program.entries.items():
        _check_entry(f"program.entries.{name}", entry, parts.program, parts.where)


def _check_manifest(parts: Parts) -> None:
    manifest, entries, where = parts.manifest, parts.program.entries, parts.where
    _same("manifest.format", manifest.format, "the format version", FORMAT_VERSION, where)
    found, expected = sorted(manifest.entries), sorted(entries)
    _same("manifest.entries", found, "the program's", expected, where)
    for name, entry in entries.items():
        width = entry.logits.stride
        path = f"program.entries.{name}.logits.stride"
        _same(path, width, "4 bytes for each of the vocabulary", 4 * manifest.dims.vocab, where)
    if "prefill" in entries:
        rows = entries["prefill"].max_rows.get(Rows.T, 1)
        _same("manifest.chunk", manifest.chunk, "the rows of prefill", rows, where)


def _check_weights(parts: Parts) -> None:
    targets, region, where = parts.manifest.targets, parts.program.weights_nbytes, parts.where
    if not targets:
        raise _refusal("manifest.targets is empty", "at least one target", where)
    for target in targets:
        name = weights_section(target)
        if name not in parts.sections:
            raise missing(name, f"the weights of the manifest's target {target!r}", where)
        nbytes = parts.sections[name].nbytes
        _same(f"section {name!r}", nbytes, "the program's weights_nbytes", region, where)
    for tensor in parts.index.tensors:
        end = tensor.offset + tensor.nbytes
        _inside(f"weights.index tensor {tensor.name!r}", end, region, where)


def _check_kv(parts: Parts) -> None:
    kv, where = parts.kv, parts.where
    _same("kv_layout.nbytes", kv.nbytes, "the program's kv_nbytes", parts.program.kv_nbytes, where)
    for place, span in enumerate(kv.spans()):
        _inside(f"kv_layout span {place}", span.end, kv.nbytes, where)
    for place, layer in enumerate(kv.layers):
        path = f"kv_layout.layers[{place}].context"
        _same(path, layer.context, "the manifest's", parts.manifest.context, where)


def _check_entry(path: str, entry: Entry, program: Program, where: str) -> None:
    limits = (program.weights_nbytes, entry.arena_nbytes, program.kv_nbytes, program.io_nbytes)
    for name, operand in (("tokens", entry.tokens), ("logits", entry.logits)):
        if operand.region != Region.IO:
            raise _refusal(f"{path}.{name} is in {operand.region.name}", "region IO", where)
        _inside(f"{path}.{name}", operand.offset + operand.nbytes, program.io_nbytes, where)
    for place, command in enumerate(entry.commands):
        problem = _shape_problem(command) or _range_problem(command.operands, limits)
        if problem:
            raise _refusal(f"{path}.commands[{place}] ({command.op[:40]}) {problem}", "", where)


def _shape_problem(command: Command) -> str:
    """How a command differs from its contract, empty where it does not."""
    contract = BY_NAME.get(command.op)
    if contract is None:
        return f"is none of the commands this runtime has: {', '.join(BY_NAME)}"
    found = len(command.operands), len(command.ints), len(command.floats)
    expected = len(contract.operands), len(contract.ints), len(contract.floats)
    if found != expected:
        return f"has (operands, ints, floats) {found} where its contract has {expected}"
    for operand, spec in zip(command.operands, contract.operands, strict=True):
        if operand is None and not spec.optional:
            return f"lacks its operand {spec.name!r}"
    return ""


def _range_problem(operands: tuple[Operand | None, ...], limits: tuple[int, ...]) -> str:
    for place, operand in enumerate(operands):
        if operand is not None and operand.offset + operand.nbytes > limits[operand.region]:
            end, region = operand.offset + operand.nbytes, operand.region
            return f"operand {place} ends at {end}, beyond {region.name} ({limits[region]} bytes)"
    return ""


def _inside(what: str, end: int, limit: int, where: str) -> None:
    if end > limit:
        raise _refusal(f"{what} ends at {end}", f"at most {limit}", where)


def _same(what: str, found: object, other: str, expected: object, where: str) -> None:
    if found != expected:
        raise _refusal(f"{what} is {found}", f"{other}, {expected}", where)


def _refusal(found: str, expected: str, where: str) -> ArchiveError:
    remedy = "the archive was not written by hearth, or by a faulty version; compile it again"
    return refusal("inconsistent", found, expected, where, remedy)
