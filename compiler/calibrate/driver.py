"""Calibration and coding, linear after linear: what it reads with all coded weights before it, then its codes.

Each group of linears over one input is met once: its input gives the statistics, its weights are coded, and with the
coded weights the next input is computed. So all later statistics know what the coding before has cost (Frantar et
al. 2022, arXiv:2210.17323, with the inputs of every linear, not of every layer, brought up to date).
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from hearth.compiler.calibrate.coded import Dequantised, write_coded
from hearth.compiler.calibrate.measure import loudest_of, note_cache, note_input, statics_of
from hearth.compiler.calibrate.run import Runner
from hearth.compiler.calibrate.shift import Shifted, shift_factor
from hearth.compiler.calibrate.stages import Stage, Stored, every_row, stages
from hearth.compiler.calibrate.statistics import hessian, largest
from hearth.compiler.calibrate.work import State, Work
from hearth.compiler.ir.graph import Graph
from hearth.compiler.ir.ops import Constant, Embedding, Linear, Op
from hearth.compiler.ir.rewrite import order
from hearth.compiler.ir.tensors import QuantisedSource, Source
from hearth.compiler.memory import release
from hearth.compiler.quantize import Statics
from hearth.compiler.quantize.coding import coder, sample_rows
from hearth.compiler.quantize.roles import weight_schemes
from hearth.compiler.quantize.schemes import Scheme, WeightScheme
from hearth.runtime.progress import Progress, step
from hearth.schemas.commands import KVScheme
from hearth.schemas.recipe import RangeName

F32 = NDArray[np.float32]
Ids = NDArray[np.int32]
ENTRY = "prefill"
UNITS = 1000  # of progress in a second
BATCH_NBYTES = 64 << 20  # of f32 rows coded at once
PROBED = 8  # windows that say what a head reads that is a table too


@dataclass(frozen=True, eq=False)
class Job:
    """A float graph whose weights are to be coded by a scheme, on windows of ids i32[W, T]."""

    graph: Graph
    scheme: Scheme
    ids: Ids
    ranges: RangeName = "minmax"
    threads: int = 0

    def weights(self) -> dict[str, tuple[Constant, WeightScheme]]:
        """The weights that become codes, by name."""
        chosen = weight_schemes(self.graph, self.scheme)
        return {
            weight.name: (weight, scheme)
            for weight, scheme in chosen.items()
            if scheme.quantised and isinstance(weight.value, Source)
        }


@dataclass(frozen=True, eq=False)
class Calibrated:
    """Coded weights, read from the work folder, and new gains, by name; static codes where the scheme has them.

    `loudest`: of activations `auto`, the weights of each input, those first that a scale per row would serve best.
    """

    coded: Mapping[str, QuantisedSource | Source]
    statics: Statics
    loudest: tuple[tuple[str, ...], ...] = ()


def calibrate(job: Job, work: Work, progress: Progress, shares: Sequence[float] = ()) -> Calibrated:
    """Code every weight of the job; goes on from where `work` stands.

    `shares` are the seconds that the stages are expected to take, for the time left; none: all the same.
    """
    return _Coding(job, work, work.open()).run(progress, shares)


def maxima(job: Job, progress: Progress) -> dict[str, F32]:
    """max |x_k| of the input of each linear that is to be coded, by its weight's name, in the float model."""
    results = every_row(job.graph, ENTRY)
    found: dict[str, F32] = {}
    runner, values = Runner(job.ids, job.threads), dict[Op, F32]()
    cut = stages(results, job.weights())
    with step(progress, "measure", len(cut)) as advance:
        for stage in cut:
            if stage.x is not None:
                loudest = largest(values[stage.x])
                found |= {_name(linear): loudest for linear in stage.linears}
            values |= runner.run(stage, stage.gives, values, lambda constant: constant)
            for op in stage.dead:
                values.pop(op, None)
            release()
            advance(1)
    return found


@dataclass(eq=False)
class _Coding:
    """One run. Streams of matrices: "coded" with the coded weights, "exact" (where asked for) of the float model."""

    job: Job
    work: Work
    state: State
    streams: dict[str, dict[Op, F32]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.weights = self.job.weights()
        self.results = every_row(self.job.graph, ENTRY)
        self.stages = stages(self.results, self.weights)
        self.runner = Runner(self.job.ids, self.job.threads)
        self.numbers = {op: str(place) for place, op in enumerate(order(self.results))}
        names = ("coded", "exact") if self.job.scheme.methods.gptaq else ("coded",)
        by_number = {number: op for op, number in self.numbers.items()}
        self.streams = {name: {} for name in names}
        for label, values in self.state.held.items():
            stream, _, number = label.partition(".")
            self.streams[stream][by_number[number]] = values
        self.state.held = {}

    def run(self, progress: Progress, shares: Sequence[float]) -> Calibrated:
        done = self.state.stages
        units = [max(1, round(UNITS * share)) for share in shares] or [1] * len(self.stages)
        if not done:
            self._tied_tables(progress)
        with step(progress, "calibrate and code", sum(units[done:])) as advance:
            for number in range(done, len(self.stages)):
                self._stage(self.stages[number])
                self.state.stages = number + 1
                if self.work.due() or number + 1 == len(self.stages):
                    self._save()
                advance(units[number])
        found = self.state.found
        return Calibrated(self.state.coded, statics_of(found), loudest_of(found))

    def _stage(self, stage: Stage) -> None:
        if stage.x is None:
            self._lone_tables()
        else:
            self._code(stage)
        release()
        for name, values in self.streams.items():
            replace = self._coded if name == "coded" else _same
            stored = self._stored(stage) if name == "coded" else {}
            made = self.runner.run(stage, (*stage.gives, *stored), values, replace)
            for op, half in stored.items():
                rows = made[op] if op in stage.gives else made.pop(op)
                note_cache(self.state.found, half.layer, half.kind, rows, self.job.ranges)
            values |= made
            for op in stage.dead:
                values.pop(op, None)
        release()

    def _tied_tables(self, progress: Progress) -> None:
        """Tables that are a head too, before all else: so every later statistic knows what their rows have lost.

        What the head reads is taken from the float model, over the first windows alone, and their target stays
        the float rows: a shift that helps the logits would harm the lookups.
        """
        heads = {
            stage.x: [each for each in stage.linears if self._is_table(_name(each))]
            for stage in self.stages
            if stage.x is not None
        }
        if not any(heads.values()):
            return
        runner, values = Runner(self.job.ids[:PROBED], self.job.threads), dict[Op, F32]()
        with step(progress, "code the table", len(self.stages)) as advance:
            for stage in self.stages:
                if stage.x is not None and heads[stage.x]:
                    second = self.job.scheme.methods.second_order
                    products = hessian(values[stage.x]) if second else None
                    for name in map(_name, heads[stage.x]):
                        self._write(name, self._weighed(name, products), None)
                values |= runner.run(stage, stage.gives, values, _same)
                for op in stage.dead:
                    values.pop(op, None)
                release()
                advance(1)

    def _stored(self, stage: Stage) -> dict[Op, Stored]:
        """The cache halves to measure."""
        static = self.job.scheme.kv is KVScheme.INT8_STATIC
        return {half.rows: half for half in stage.stored} if static else {}

    def _lone_tables(self) -> None:
        """Tables that are no linear's weight: nothing is known of what their errors do."""
        ops = order(self.results)
        read = {_name(op) for op in ops if isinstance(op, Linear)}
        for name in self.weights:
            if name not in read:
                self._write(name, None, None)

    def _code(self, stage: Stage) -> None:
        assert stage.x is not None
        x = self.streams["coded"][stage.x]
        methods, activations = self.job.scheme.methods, self.job.scheme.activations
        if activations in ("static", "auto"):
            names = [_name(linear) for linear in stage.linears]
            note_input(self.state.found, names, x, self.job.ranges, activations == "auto")
        products = hessian(x) if methods.second_order else None
        factor = None
        if methods.gptaq and products is not None:
            factor = shift_factor(self.streams["exact"][stage.x], x, products)
        for linear in stage.linears:
            name = _name(linear)
            if name not in self.state.coded:
                self._write(name, self._weighed(name, products), factor)

    def _weighed(self, name: str, products: F32 | None) -> F32 | None:
        """Of a table that is looked up too: its rows' own errors count as much as what they do to the logits."""
        if products is None or not self._is_table(name):
            return products
        mean = products.diagonal().mean()
        weighed = products / mean if mean > 0 else products.copy()
        weighed[np.diag_indices(len(weighed))] += np.float32(1)
        return np.asarray(weighed, np.float32)

    def _is_table(self, name: str) -> bool:
        return any(
            isinstance(op, Embedding) and isinstance(op.table, Constant) and op.table.name == name
            for op in self.numbers
        )

    def _write(self, name: str, products: F32 | None, factor: F32 | None) -> None:
        weight, scheme = self.weights[name]
        source = weight.value
        assert isinstance(source, Source)
        rows = source if factor is None else Shifted(source, factor)
        n, k = source.shape
        methods, threads = self.job.scheme.methods, self.job.threads or all_cores()
        code = coder(scheme, methods, products, sample_rows(rows, scheme), threads)
        count = max(1, BATCH_NBYTES // (4 * k))
        batches = (
            code.rows(rows.rows(start, min(start + count, n))) for start in range(0, n, count)
        )
        path = self.work.folder / f"coded-{sorted(self.weights).index(name)}"
        self.state.coded[name] = write_coded(path, scheme.bits, batches)

    def _coded(self, constant: Constant) -> Constant:
        found = self.state.coded.get(constant.name)
        return constant if found is None else Constant(constant.name, Dequantised(found))

    def _save(self) -> None:
        self.state.held = {
            f"{stream}.{self.numbers[op]}": rows
            for stream, values in self.streams.items()
            for op, rows in values.items()
        }
        self.work.save(self.state)
        self.state.held = {}


def all_cores() -> int:
    """The cores this process may use."""
    return len(os.sched_getaffinity(0))


def _same(constant: Constant) -> Constant:
    return constant


def _name(linear: Linear) -> str:
    return linear.weight.name if isinstance(linear.weight, Constant) else ""
