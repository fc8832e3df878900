"""Native parts of a general graph: arrays of any rank as matrices of rows, run in pieces the entry takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hearth.runtime import native
from hearth.schemas.errors import ArchiveError, InputError
from hearth.schemas.graph import Step
from hearth.schemas.program import Entry, Port, Rows

F32 = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class NativeStep:
    """A step bound to an entry: its inputs are the ports x0, x1, ..., its outputs y0, y1, ...

    The leading dims of the inputs are the rows; all inputs have the same.
    """

    engine: native.Engine
    number: int
    entry: Entry
    step: Step

    @cached_property
    def state(self) -> native.State:
        """Islands keep nothing from call to call."""
        return native.State(0)

    def __call__(self, values: Mapping[str, Any]) -> Mapping[str, Any]:
        """The step's outputs, f32[..., columns]."""
        given = {f"x{at}": values[name] for at, name in enumerate(self.step.inputs)}
        leading = given["x0"].shape[:-1]
        inputs = [self._rows(given[port.name], port, leading) for port in self.entry.inputs]
        rows = prod(leading)
        made = {
            port.name: np.empty((rows, port.columns), np.float32) for port in self.entry.outputs
        }
        most = self.entry.max_rows.get(Rows.T, 1)
        for start in range(0, rows, most):
            piece = slice(start, min(start + most, rows))
            self.engine.run(
                self.state,
                self.number,
                piece.stop - start,
                0,
                [each[piece] for each in inputs],
                [each[piece] for each in made.values()],
            )
        return {
            name: made[f"y{at}"].reshape(*leading, made[f"y{at}"].shape[1])
            for at, name in enumerate(self.step.outputs)
        }

    def _rows(self, value: NDArray[Any], port: Port, leading: tuple[int, ...]) -> F32:
        if value.shape != (*leading, port.columns):
            name = self.step.inputs[int(port.name[1:])]
            raise InputError(
                "input.rows",
                f"{name!r} has the shape {list(value.shape)}",
                expected=f"{[*leading, port.columns]}, as the model's own names of dims say",
                remedy="give inputs whose shapes agree with each other",
            )
        return np.ascontiguousarray(value, np.float32).reshape(-1, port.columns)


def bind_step(
    engine: native.Engine, number: int, entry: Entry, step: Step, where: str
) -> NativeStep:
    """A step and its entry, whose ports are as many."""
    ports = sorted(port.name for port in (*entry.inputs, *entry.outputs))
    wanted = [f"x{at}" for at in range(len(step.inputs))]
    wanted += [f"y{at}" for at in range(len(step.outputs))]
    if ports != sorted(wanted) or not step.inputs:
        raise ArchiveError(
            "archive.graph",
            f"entry {step.run!r} has the ports {', '.join(ports)[:200]}",
            expected=f"{len(step.inputs)} inputs and {len(step.outputs)} outputs",
            where=where,
            remedy="compile the model again",
        )
    return NativeStep(engine, number, entry, step)
