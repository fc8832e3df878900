"""Bind an archive's program to this CPU's kernels: no copies, nothing computed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hearth.runtime import native
from hearth.runtime.archive import Archive
from hearth.runtime.machine.affinity import Affinity, check_count, default_places
from hearth.runtime.machine.cores import available_cores
from hearth.schemas.commands import BY_NAME
from hearth.schemas.errors import ArchiveError, ResourceError, UsageError
from hearth.schemas.program import Command, Entry, Port, Rows

MAX_THREADS = 256
NOWHERE = Affinity()
ROWS = {Rows.T: -1, Rows.R: -2}


def checked_threads(threads: int | None, affinity: Affinity = NOWHERE) -> int:
    """A number of threads this runtime takes; by default the cores asked for, else those this process should use."""
    if threads is None:
        return min(affinity.threads() or available_cores(), MAX_THREADS)
    if not 1 <= threads <= MAX_THREADS:
        raise UsageError(
            "arguments.threads",
            f"{threads} threads",
            expected=f"1 to {MAX_THREADS}",
            remedy=f"the default here is {available_cores()}, the cores worth a thread",
        )
    return threads


def checked_isa(isa: str | None) -> str:
    """An instruction set this CPU has; by default its best."""
    here = native.isas()
    if isa is None:
        return here[-1]
    if isa in here:
        return isa
    known = list(dict.fromkeys(kernel.isa for kernel in native.kernels()))
    reason = "this CPU lacks it" if isa in known else f"the known ones are {', '.join(known)}"
    raise UsageError(
        "arguments.isa",
        f"the instruction set {isa!r}: {reason}",
        expected=f"one of {', '.join(here)}",
    )


def bind(
    archive: Archive, threads: int, isa: str, affinity: Affinity = NOWHERE
) -> tuple[native.Engine, dict[str, int]]:
    """Raises ArchiveError `archive.program` for what the engine refuses, ResourceError for what the machine lacks."""
    where, program = str(archive.path), archive.program
    check_count(affinity, program.entries, threads)
    weights = np.frombuffer(archive.weights(), np.uint8)
    sizes = program.arena_nbytes, program.io_nbytes, program.kv_nbytes
    try:
        engine = native.Engine(weights, *sizes, threads, isa)
        entries = {name: _add_entry(engine, entry) for name, entry in program.entries.items()}
        engine.finish()
    except MemoryError:
        raise ResourceError(
            "resource.memory",
            f"there is no memory for an arena of {program.arena_nbytes:,} bytes",
            where=where,
            remedy="free memory, or compile with a smaller --context",
        ) from None
    except ValueError as error:
        raise ArchiveError(
            "archive.program",
            f"the program cannot run here: {error}",
            where=where,
            remedy="compile the model again with this version of hearth",
        ) from None
    except RuntimeError as error:  # std::system_error of the thread pool
        raise ResourceError(
            "resource.threads",
            f"{threads} threads cannot be started: {error}",
            remedy="ask for fewer threads, or raise the limit of processes",
        ) from None
    _place(engine, entries, affinity)
    if archive.mapping.sees_the_cache:
        engine.map_cached()
    return engine, entries


def _place(engine: native.Engine, entries: Mapping[str, int], affinity: Affinity) -> None:
    """One core for each thread, of those asked for in order; else the default."""
    usual = default_places(engine.threads)
    for name, number in entries.items():
        cores = affinity.of(name)
        own = None if cores is None else [(core,) for core in cores[: engine.threads]]
        engine.place(number, usual if own is None else own, own is not None)


def run_entry(
    archive: Archive,
    engine: native.Engine,
    number: int,
    state: native.State,
    place: tuple[int, int],
    inputs: list[NDArray[Any]],
    outputs: list[NDArray[np.float32]],
    adapter: tuple[native.Adapter | None, float] = (None, 1.0),
) -> None:
    """Run T rows at a position, `place`, that the caller has checked against the manifest; with an adapter, its scale.

    Raises ArchiveError `archive.program` where the program allows less than the manifest says.
    """
    try:
        engine.run(state, number, *place, inputs, outputs, *adapter)
    except ValueError as error:
        raise _unlike_promised(archive, error) from None


def run_segments(
    archive: Archive,
    engine: native.Engine,
    number: int,
    segments: Sequence[native.Segment | native.AdaptedSegment],
    inputs: list[NDArray[Any]],
    outputs: list[NDArray[np.float32]],
) -> None:
    """Run rows of several sequences, checked likewise (native.pyi says what a segment is)."""
    try:
        engine.run_segments(number, list(segments), inputs, outputs)
    except ValueError as error:
        raise _unlike_promised(archive, error) from None


def _unlike_promised(archive: Archive, error: ValueError) -> ArchiveError:
    return ArchiveError(
        "archive.program",
        f"the program does not do what the manifest says: {error}",
        where=str(archive.path),
        remedy="compile the model again with this version of hearth",
    )


def row_limit(entry: Entry, rows: Rows) -> int:
    """How many rows an entry takes; one where it has no such dimension (decode)."""
    return entry.max_rows.get(rows, 1)


def new_state(archive: Archive) -> native.State:
    """A zeroed KV region. Its pages take memory as positions are written."""
    nbytes = archive.program.kv_nbytes
    try:
        return native.State(nbytes)
    except MemoryError:
        raise ResourceError(
            "resource.memory",
            f"there is no memory for a KV cache of {nbytes:,} bytes",
            remedy="close other sessions, or compile with a smaller --context or --kv int8",
        ) from None


def _add_entry(engine: native.Engine, entry: Entry) -> int:
    inputs, outputs = map(_port, entry.inputs), map(_port, entry.outputs)
    most = row_limit(entry, Rows.T), row_limit(entry, Rows.R)
    number = engine.add_entry(*most, list(inputs), list(outputs))
    for command in entry.commands:
        _add_command(engine, number, command)
    return number


def _port(port: Port) -> tuple[int, int, int]:
    return port.operand.offset, port.columns, _rows(port.rows)


def _rows(rows: int | Rows) -> int:
    return ROWS[rows] if isinstance(rows, Rows) else rows


def _add_command(engine: native.Engine, entry: int, command: Command) -> None:
    operands = [
        None if operand is None else (int(operand.region), operand.offset, operand.stride)
        for operand in command.operands
    ]
    opcode = BY_NAME[command.op].opcode
    engine.add_command(entry, opcode, _rows(command.rows), operands, command.ints, command.floats)
