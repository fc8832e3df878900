"""Native parts of a general graph: arrays of any rank as matrices of rows, run in pieces the entry takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from hearth.runtime import native
from hearth.schemas.errors import InputError
from hearth.schemas.graph import Step
from hearth.schemas.program import Entry, Rows


@dataclass(frozen=True, eq=False)
class NativeStep:
    """A step bound to an entry. The leading dims of its inputs are its rows; all inputs have the same."""

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
        given = [values[name] for name in self.step.inputs]
        leading = given[0].shape[:-1]
        for name, value in zip(self.step.inputs, given, strict=True):
            if value.shape[:-1] != leading:
                raise InputError(
                    "input.rows",
                    f"{name!r} has the shape {list(value.shape)}, {self.step.inputs[0]!r} {list(given[0].shape)}",
                    expected="the same leading dims, as the model's shapes say",
                    remedy="give inputs whose shapes agree with the model's own names of dims",
                )
        inputs = [
            np.ascontiguousarray(value, np.float32).reshape(-1, port.columns)
            for value, port in zip(given, self.entry.inputs, strict=True)
        ]
        rows = len(inputs[0])
        outputs = [np.empty((rows, port.columns), np.float32) for port in self.entry.outputs]
        most = self.entry.max_rows.get(Rows.T, 1)
        for start in range(0, rows, most):
            piece = slice(start, min(start + most, rows))
            self.engine.run(
                self.state,
                self.number,
                piece.stop - start,
                0,
                [each[piece] for each in inputs],
                [each[piece] for each in outputs],
            )
        return {
            name: rows_of.reshape(*leading, rows_of.shape[1])
            for name, rows_of in zip(self.step.outputs, outputs, strict=True)
        }
