"""The program: a flat list of commands per entry, as the archive stores it and the executor runs it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Annotated

from hearth.schemas.bounds import Bounds


class Region(IntEnum):
    """Address spaces of operands. Offsets are bytes."""

    WEIGHTS = 0  # the mapped weights section, read only
    ARENA = 1  # scratch for one run, its plan made at compile time
    KV = 2  # one session's keys and values
    IO = 3  # tokens in, logits out


class Rows(StrEnum):
    """Row counts known only when an entry runs."""

    T = "T"  # tokens of this call
    R = "R"  # rows of logits asked for: the last R of T


@dataclass(frozen=True)
class Operand:
    """`nbytes` bytes at `offset` of a region, for the largest row count.

    `stride` is the distance of rows in bytes (0 for what has no rows). `value` numbers the tensor whose
    bytes these are (one number, one definition: static single assignment over arena, KV and IO; -1 for
    weights), so that a checker sees a clobbered buffer without knowing how the plan was made.
    """

    region: Region
    offset: int
    nbytes: int
    stride: int = 0
    value: Annotated[int, Bounds(-1)] = -1


@dataclass(frozen=True)
class Command:
    """One contract (schemas/commands.py) bound to operands; an optional operand not given is None."""

    op: str
    rows: int | Rows
    operands: tuple[Operand | None, ...]
    ints: tuple[int, ...] = ()
    floats: tuple[float, ...] = ()


@dataclass(frozen=True)
class Port:
    """A named tensor of an entry in region IO: f32[rows, columns], or token ids i32[rows] where columns is 0.

    Rows of a port lie without gaps.
    """

    name: str
    rows: int | Rows
    columns: int
    operand: Operand


@dataclass(frozen=True)
class Entry:
    """A named start: inputs are read and outputs written in region IO; `max_rows` bounds T and R.

    `given` are the values defined before the first command: the inputs and the KV state. A decoder's
    entries read `tokens` and write `logits`; an encoder's read `tokens` (and `types`) and write `embedding`
    or `hidden`.
    """

    commands: tuple[Command, ...]
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    given: tuple[int, ...]
    max_rows: Mapping[Rows, int]
    arena_nbytes: int


@dataclass(frozen=True)
class Program:
    """All entries over one set of weights. The executor allocates the largest arena and io once."""

    entries: Mapping[str, Entry]
    weights_nbytes: int
    kv_nbytes: int
    io_nbytes: int

    @property
    def arena_nbytes(self) -> int:
        """Bytes of the arena that serves every entry."""
        return max((entry.arena_nbytes for entry in self.entries.values()), default=0)
