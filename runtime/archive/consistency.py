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
from hearth.schemas.manifest import Manifest, ModelKind
from hearth.schemas.program import Command, Entry, Operand, Program, Region, Rows
from hearth.schemas.sections import GRAPH, Section, weights_section
from hearth.schemas.weights_index import WeightsIndex

ROWS = "hidden"  # a decoder's entry for vectors of texts
POOLINGS = ("last", "mean", "cls", "max")  # of its rows


@dataclass(frozen=True)
class Parts:
    """The decoded parts of one archive, and where its sections lie."""

    manifest: Manifest
    program: Program
    kv: KVLayout
    index: WeightsIndex
    sections: Mapping[str, Section]
    version: int  # of the header
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
    _same("manifest.format", manifest.format, "the format version", parts.version, where)
    found, expected = sorted(manifest.entries), sorted(entries)
    _same("manifest.entries", found, "the program's", expected, where)
    sized = manifest.dims is not None
    _same("manifest.dims", _given(sized), "", _given(manifest.kind is not ModelKind.GRAPH), where)
    vectors = manifest.embedding is not None
    pooled = manifest.kind is ModelKind.DECODER and ROWS in entries
    encoder = manifest.kind is ModelKind.ENCODER
    _same("manifest.embedding", _given(vectors), "", _given(encoder or pooled), where)
    if pooled and manifest.embedding is not None and manifest.embedding.pooling not in POOLINGS:
        problem = f"manifest.embedding.pooling is {manifest.embedding.pooling[:40]!r}"
        raise _refusal(problem, f"one of {', '.join(POOLINGS)}", where)
    if manifest.kind is ModelKind.GRAPH:
        if GRAPH not in parts.sections:
            raise missing(GRAPH, "the ports and steps of a graph", where)
    else:
        for name, entry in entries.items():
            _check_ports(f"program.entries.{name}", name, entry, manifest, where)


def _given(there: bool) -> str:
    return "given" if there else "nil"


def _check_ports(path: str, name: str, entry: Entry, manifest: Manifest, where: str) -> None:
    """A decoder gives logits and perhaps rows, an encoder vectors; both read ids."""
    one = name == "decode"
    ids = [(port.name, port.columns, str(port.rows)) for port in entry.inputs]
    counted = "1" if one else "T"
    known = ["tokens"] if manifest.kind is ModelKind.DECODER else ["tokens", "types"]
    wanted = [(port, 0, counted) for port in known]
    expected = [port for port in wanted if port[0] == "tokens" or port in ids]
    _same(f"{path}.inputs", sorted(ids), "ids", expected, where)
    found = [(port.name, port.columns, str(port.rows)) for port in entry.outputs]
    if manifest.embedding is not None and manifest.kind is ModelKind.DECODER and name == ROWS:
        expected = [(name, manifest.embedding.columns, "R")]
        _same(f"{path}.outputs", found, "", expected, where)
    elif manifest.embedding is not None and manifest.kind is ModelKind.ENCODER:
        pooled = name == "main" and manifest.embedding.pooling != "none"
        result = "embedding" if name == "main" else name
        expected = [(result, manifest.embedding.columns, "1" if pooled else "T")]
        _same(f"{path}.outputs", found, "", expected, where)
    elif manifest.dims is not None:
        expected = [("logits", manifest.dims.vocab, "1" if one else "R")]
        _same(f"{path}.outputs", found, "", expected, where)
    if not one:
        rows = entry.max_rows.get(Rows.T, 1)
        _same("manifest.chunk", manifest.chunk, f"the rows of {name}", rows, where)


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
    ports = (*entry.inputs, *entry.outputs)
    names = [port.name for port in ports]
    _same(f"{path} has ports", names, "each of another name", list(dict.fromkeys(names)), where)
    for port in ports:
        operand, name = port.operand, f"{path} port {port.name[:40]!r}"
        if operand.region != Region.IO:
            raise _refusal(f"{name} is in {operand.region.name}", "region IO", where)
        most = entry.max_rows.get(port.rows, 1) if isinstance(port.rows, Rows) else port.rows
        nbytes = most * 4 * max(port.columns, 1)
        _same(f"{name} has bytes", operand.nbytes, "those of its rows", nbytes, where)
        _inside(name, operand.offset + operand.nbytes, program.io_nbytes, where)
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
    expected = len(contract.operands), len(contract.ints), len(contract.float_names(command.ints))
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
        raise _refusal(f"{what} is {found}", f"{other}, {expected}".removeprefix(", "), where)


def _refusal(found: str, expected: str, where: str) -> ArchiveError:
    remedy = "the archive was not written by hearth, or by a faulty version; compile it again"
    return refusal("inconsistent", found, expected, where, remedy)
