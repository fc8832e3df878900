"""Parts of older format versions, and how each becomes what this version holds (FORMAT.md, Versions)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from hearth.schemas.codec import loads
from hearth.schemas.commands import Activation
from hearth.schemas.manifest import Dims, Manifest, ModelKind, SchemeNames
from hearth.schemas.program import Command, Entry, Operand, Port, Program, Rows
from hearth.schemas.sections import FORMAT_VERSION

T = TypeVar("T")


@dataclass(frozen=True)
class Manifest1:
    """Version 1 knew decoders only."""

    hearth: str
    family: str
    source: str
    fingerprint: str
    dims: Dims
    context: int
    chunk: int
    schemes: SchemeNames
    targets: tuple[str, ...]
    entries: tuple[str, ...]
    parameters: int
    bos: int | None
    eos: tuple[int, ...]
    format: int


@dataclass(frozen=True)
class Entry1:
    """Version 1: ids in, logits out; `inputs` are the values defined before the first command."""

    commands: tuple[Command, ...]
    tokens: Operand
    logits: Operand
    inputs: tuple[int, ...]
    max_rows: Mapping[Rows, int]
    arena_nbytes: int


@dataclass(frozen=True)
class Program1:
    """Version 1."""

    entries: Mapping[str, Entry1]
    weights_nbytes: int
    kv_nbytes: int
    io_nbytes: int


def manifest1(old: Manifest1) -> Manifest:
    """A decoder; `format` stays what the file says."""
    return Manifest(
        hearth=old.hearth, kind=ModelKind.DECODER, family=old.family, source=old.source,
        fingerprint=old.fingerprint, dims=old.dims, embedding=None, context=old.context,
        chunk=old.chunk, schemes=old.schemes, targets=old.targets, entries=old.entries,
        parameters=old.parameters, bos=old.bos, eos=old.eos, format=old.format,
    )  # fmt: skip


def program1(old: Program1) -> Program:
    """Ports for tokens and logits; `silu` is a case of `activate`; attention was causal."""
    entries = {name: _entry1(entry) for name, entry in old.entries.items()}
    return Program(entries, old.weights_nbytes, old.kv_nbytes, old.io_nbytes)


def _entry1(old: Entry1) -> Entry:
    tokens = Port("tokens", _rows(old, old.tokens, Rows.T), 0, replace(old.tokens, stride=4))
    logits = Port("logits", _rows(old, old.logits, Rows.R), old.logits.stride // 4, old.logits)
    commands = tuple(map(_command1, old.commands))
    given = old.inputs
    return Entry(commands, (tokens,), (logits,), given, old.max_rows, old.arena_nbytes)


def _rows(entry: Entry1, port: Operand, default: Rows) -> int | Rows:
    """The rows of the commands that read or write a port."""
    return next(_users(entry, port), default)


def _users(entry: Entry1, port: Operand) -> Iterator[int | Rows]:
    for command in entry.commands:
        if any(operand is not None and operand.value == port.value for operand in command.operands):
            yield command.rows


def _command1(old: Command) -> Command:
    match old.op:
        case "silu":
            return replace(old, op="activate", ints=(*old.ints, int(Activation.SILU)))
        case "attention":
            return replace(old, ints=(*old.ints, 1))
    return old


@dataclass(frozen=True)
class Former:
    """How a part looked in an older version, and what makes it today's."""

    mirror: type
    upgrade: Callable[[Any], Any]


FORMER: Mapping[int, Mapping[type, Former]] = {
    1: {Manifest: Former(Manifest1, manifest1), Program: Former(Program1, program1)},
}
VERSIONS = (*FORMER, FORMAT_VERSION)  # that this runtime reads


def load_part(
    kind: type[T], data: bytes | memoryview, version: int, root: str, where: str = ""
) -> T:
    """A part as today's typed value, from the bytes of any version in VERSIONS; else ArchiveError archive.schema."""
    former = FORMER.get(version, {}).get(kind)
    if former is None:
        return loads(kind, data, root, where)
    upgraded: T = former.upgrade(loads(former.mirror, data, root, where))
    return upgraded
