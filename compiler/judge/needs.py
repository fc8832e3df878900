"""What a compile under gates adds to memory: the float archive, the costs of schemes beside it, and the trials."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path

from hearth.compiler.calibrate.predict import ENGINE_NBYTES as CALIBRATING
from hearth.compiler.calibrate.run import columns_of
from hearth.compiler.check.blocks import blocks, largest_part
from hearth.compiler.ir.graph import Graph
from hearth.compiler.judge.noise import NOISE, every_row, linears
from hearth.compiler.judge.sensitivity import LOGIT_ROWS, codable, token_budget
from hearth.compiler.memory import Need
from hearth.compiler.needs import (
    SEARCH_NBYTES,
    WEIGHT_COPIES,
    after_engine,
    cached_nbytes,
    loaded_nbytes,
    native_needs,
)
from hearth.compiler.package import Native, native_package
from hearth.runtime.evaluation.scoring import ROWS

DOUBLES = 6  # f64 of the rows of logits that are worked on at once


@dataclass(frozen=True, eq=False)
class Judging:
    """The float archive and trials as they will be, of a decoder's float graph; `calibrating`: bytes that a trial
    takes to calibrate and code; texts are read in windows of `context` tokens."""

    source: Path
    graph: Graph
    floats: Native
    trials: Sequence[Native]
    calibrating: int
    windows: int
    context: int
    compared: bool  # with the float model's logits, not its perplexity alone
    checked: int
    prompt: str | None

    def needs(self) -> list[Need]:
        """Of every part, in order; while trials are compiled and measured the float archive stays."""
        floats = native_needs(self.floats, native_package(self.floats), self.source)
        mapped = native_package(self.floats).expected_nbytes
        beside = [
            Need("to compare schemes", self._sensitivity(), mapped),
            *(need for trial in self.trials for need in self._trial(trial, mapped)),
        ]
        held = loaded_nbytes(self.floats) + self._texts()
        return [*floats, *(replace(need, own=need.own + held) for need in beside)]

    def _texts(self) -> int:
        """The float model's cache and its logits."""
        return cached_nbytes(self.floats.lowered, self.context) + self._rows(self._chunk())

    def _chunk(self) -> int:
        return min(self.context, 128)

    def _rows(self, rows: int) -> int:
        """Logits of some rows."""
        return 4 * rows * self._vocab

    @property
    def _vocab(self) -> int:
        return self.floats.model.dims.vocab

    def _sensitivity(self) -> int:
        lone = every_row(self.graph)
        weights = codable(lone)
        parameters = sum(prod(each.value.shape) for each in weights.values())
        tokens = min(token_budget(parameters, len(weights)), self.windows * self.context)
        weights_nbytes = int(WEIGHT_COPIES * largest_part(lone, NOISE))
        logits = 2 * self._rows(tokens) + 8 * DOUBLES * LOGIT_ROWS * self._vocab
        watched = 4 * _watched(lone) * (tokens + 3 * min(tokens, self.context))
        return CALIBRATING + SEARCH_NBYTES + weights_nbytes + max(logits, watched)

    def _trial(self, trial: Native, mapped: int) -> list[Need]:
        package = native_package(trial)
        compiled = native_needs(
            trial, package, self.source, checked=self.checked, prompt=self.prompt
        )
        models = 2 if self.compared else 1
        logits = self._rows(models * self._chunk()) + 8 * DOUBLES * ROWS * self._vocab
        own = cached_nbytes(trial.lowered, self.context) + logits
        measured = Need("to measure an archive", own, package.expected_nbytes)
        found = after_engine([*compiled, measured])
        if self.calibrating:
            found.insert(0, Need("to calibrate and code", self.calibrating))
        return [replace(need, mapped=need.mapped + mapped) for need in found]


def _watched(lone: Graph) -> int:
    """Columns of the inputs of linears that one block holds at once."""
    inputs = dict.fromkeys(op.x for op in linears(lone).values())
    cut = blocks(lone.entries[NOISE], inputs)
    return max(sum(columns_of(op) for op in block.outputs if op in inputs) for block in cut)
