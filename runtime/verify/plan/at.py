"""The command that is looked at: its integers and rows, and faults told with where they are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from hearth.runtime.verify.plan.shapes import Matrix, PlanError
from hearth.schemas.commands import BY_NAME
from hearth.schemas.program import Command, Entry, Program, Rows


@dataclass(frozen=True, eq=False)
class At:
    """A command of an entry; without one, the entry's ports."""

    program: Program
    entry: Entry
    name: str
    index: int = -1
    command: Command | None = None

    def fail(self, code: str, what: str) -> PlanError:
        """What is wrong here."""
        op = f" {self.command.op}" if self.command is not None else ""
        place = f"[{self.index}]{op}" if self.index >= 0 else ""
        return PlanError(code, f"{self.name}{place}", what)

    def need(self, condition: bool, code: str, what: str) -> None:
        """PlanError unless it holds."""
        if not condition:
            raise self.fail(code, what)

    @cached_property
    def ints(self) -> Mapping[str, int]:
        """The integers of the command by name."""
        if self.command is None:
            return {}
        return dict(zip(BY_NAME[self.command.op].ints, self.command.ints, strict=True))

    @cached_property
    def floats(self) -> Mapping[str, float]:
        """Its floats likewise."""
        if self.command is None:
            return {}
        names = BY_NAME[self.command.op].float_names(self.command.ints)
        return dict(zip(names, self.command.floats, strict=True))

    def most(self, rows: int | Rows) -> int:
        """The largest count of rows; a fixed count is within T."""
        if isinstance(rows, Rows):
            return self.entry.max_rows[rows]
        self.need(1 <= rows <= self.entry.max_rows[Rows.T], "rows.bound", f"{rows} rows")
        return rows

    def counted(self, rows: int | Rows) -> int | Rows:
        """A T that is at most 1 is 1."""
        return 1 if rows is Rows.T and self.entry.max_rows[Rows.T] == 1 else rows

    def rows(self, shape: Matrix) -> int | Rows:
        """Rows of an operand: the command's unless the contract says T."""
        own = self.command.rows if self.command is not None else 1
        return self.counted(own if shape.rows is None else shape.rows)
