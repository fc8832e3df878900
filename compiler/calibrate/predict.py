"""How long calibration and coding take, and how much memory and disk: by formula, from a short measured rate."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from hearth.compiler.calibrate.coded import Shape
from hearth.compiler.calibrate.driver import BATCH_NBYTES, ENTRY, PROBED, Job
from hearth.compiler.calibrate.run import columns_of
from hearth.compiler.calibrate.stages import Stage, every_row, stages
from hearth.compiler.ir.ops import Attention, Constant, Embedding, Linear, Op
from hearth.compiler.ir.rewrite import order
from hearth.compiler.ir.types import TensorType
from hearth.compiler.quantize.cost import Cost, coding_cost
from hearth.compiler.tune.fit import EPOCHS

SIDE = 1536  # of the matrices whose product is timed
TRIES = 3
# What `measured_rate` finds for a core of the machine where the rest was measured (AMD EPYC Zen 4, two cores free,
# 2026-11-21): coding_cost's seconds are of it, and of its rate stages make this share in onnxruntime, and products of
# inputs that one.
RATE_OF_COSTS = 102e9
RUNNING, PRODUCTS = 0.55, 0.75
STEP_SECONDS = 0.15  # to build and open the model of a stage
TUNING = 0.3  # of that rate numpy's products both ways, with what grows as they do
PROBABILITY_SECONDS = 25e-9  # of a core and `tune`: a weight of attention or a token's probability
LOGITS_COPIES = 6  # of one window, while the gradient of its divergence is found
ATTENTION_COPIES = 2  # beside the one that is kept
ENGINE_NBYTES = 40 << 20
WEIGHT_COPIES = 2.75  # rows, model, its bytes, engine
CODED_COPIES = 1.25  # of a batch of rows, with their codes


@dataclass(frozen=True)
class Forecast:
    """Seconds, of all and of each stage; bytes of memory on top of what is held; bytes of the work folder."""

    seconds: float
    nbytes: int
    disk_nbytes: int
    stages: tuple[float, ...]


def measured_rate() -> float:
    """Floating-point operations a second of a product of matrices on all cores, the best of a few."""
    a = np.ones((SIDE, SIDE), np.float32)
    best = float("inf")
    for _ in range(TRIES):
        began = time.perf_counter()
        a @ a
        best = min(best, time.perf_counter() - began)
    return 2.0 * SIDE**3 / best


def forecast(job: Job, rate: float | None = None) -> Forecast:
    """Of `calibrate` for a job, and of `maxima` where it smooths; `rate` None: measured now."""
    rate = rate or measured_rate()
    chosen = job.weights()
    results = every_row(job.graph, ENTRY)
    cut = stages(results, chosen)
    sequence = order(results)
    once = _forward_flops(sequence, job) / (RUNNING * rate)
    opening = STEP_SECONDS * len(cut)
    each = _streams(job) * (once + opening) / len(cut)
    before = opening + once * min(1.0, PROBED / len(job.ids)) if _tied(cut) else 0.0
    seconds = before + each * len(cut)
    seconds += opening + once if job.scheme.methods.listens else 0.0
    nbytes = disk = 0
    stage_seconds = []
    for stage in cut:
        for linear in stage.linears:
            assert isinstance(linear.weight, Constant)
            scheme = chosen[linear.weight.name][1]
            n, k = linear.weight.value.shape[:2]
            disk += Shape(n, k, scheme.bits, scheme.group, 64).nbytes
        spent, held = _coding(stage, job, rate)
        seconds += spent
        stage_seconds.append(each + spent)
        nbytes = max(nbytes, held, _running(stage, job))
    if job.scheme.methods.tune:
        spent, held = tuning_cost(job, rate)
        seconds, nbytes = seconds + spent, max(nbytes, held)
    disk += max((_streams(job) * _matrices(stage.gives, job) for stage in cut), default=0)
    return Forecast(seconds, nbytes + ENGINE_NBYTES, disk, tuple(stage_seconds))


def _tied(cut: Sequence[Stage]) -> bool:
    """Whether a table is looked up and a head too."""
    tables = {op.table for stage in cut for op in stage.lookups if isinstance(op, Embedding)}
    return any(linear.weight in tables for stage in cut for linear in stage.linears)


def _streams(job: Job) -> int:
    return 2 if job.scheme.methods.gptaq else 1


def _matrices(ops: Sequence[Op], job: Job) -> int:
    return sum(4 * job.ids.size * columns_of(op) for op in dict.fromkeys(ops))


def _elements(linear: Linear) -> int:
    assert isinstance(linear.weight, Constant)
    return prod(linear.weight.value.shape)


def _forward_flops(sequence: Sequence[Op], job: Job) -> float:
    """Of all linears but the last, whose result nobody reads, and of attention."""
    linears = [op for op in sequence if isinstance(op, Linear)]
    flops = 2.0 * sum(_elements(op) for op in linears[:-1])
    window = job.ids.shape[1]
    columns = sum(columns_of(op) for op in sequence if isinstance(op, Attention))
    return float((flops + 4.0 * window * columns) * job.ids.size)


def tuning_cost(job: Job, rate: float) -> tuple[float, int]:
    """Seconds and bytes of `tune`: floats, codes, what they are scaled to, their gradients; one window's matrices."""
    sequence = order(every_row(job.graph, ENTRY))
    head = next(op for op in reversed(sequence) if isinstance(op, Linear))
    rows = job.ids.shape[1]
    weights = sum(prod(weight.value.shape) for weight, _ in job.weights().values())
    kept = (op for op in sequence if op.operands and isinstance(op.type, TensorType))
    computed = 2 * sum(columns_of(op) for op in kept if op is not head)
    computed += LOGITS_COPIES * columns_of(head)
    attention = [op.heads * rows for op in sequence if isinstance(op, Attention)]
    met = sum(attention) + ATTENTION_COPIES * max(attention, default=0)
    nbytes = 4 * (4 * weights + rows * (computed + met) + columns_of(head.x) * job.ids.size)
    flops = _forward_flops(sequence, job) + 2.0 * _elements(head) * job.ids.size
    passes = 3 * EPOCHS + 1  # forward, and back twice
    probabilities = job.ids.size * (sum(attention) + columns_of(head))
    slowness = RATE_OF_COSTS * _cores(job) / rate
    seconds = passes * flops / (TUNING * rate) + PROBABILITY_SECONDS * slowness * probabilities
    return seconds, nbytes


def _coding(stage: Stage, job: Job, rate: float) -> tuple[float, int]:
    """Seconds and bytes of one group: statistics of its input, then its weights one after the other."""
    if stage.x is None:
        return 0.0, 0
    methods, k = job.scheme.methods, columns_of(stage.x)
    held = _streams(job) * _matrices((*stage.takes, stage.x), job)
    square = 4 * k * k
    statistics = 2 * square if methods.second_order else 0
    seconds = job.ids.size * float(k) ** 2 / (PRODUCTS * rate) if methods.second_order else 0.0
    if methods.gptaq:
        statistics += 4 * square
        seconds += (2.0 * job.ids.size * k**2 + 3.0 * float(k) ** 3) / (PRODUCTS * rate)
    cores = _cores(job)
    most = statistics
    for linear in stage.linears:
        cost = _coding_cost(linear, job, cores)
        seconds += cost.seconds * RATE_OF_COSTS * cores / rate
        rows = min(BATCH_NBYTES, 4 * _elements(linear))
        copies = 3 if methods.gptaq else 2
        known = (2 if methods.gptaq else 1) * square if methods.second_order else 0
        most = max(most, known + copies * rows, known + cost.nbytes + int(CODED_COPIES * rows))
    return seconds, held + most


def _cores(job: Job) -> int:
    return job.threads or len(os.sched_getaffinity(0))


def _coding_cost(linear: Linear, job: Job, cores: int) -> Cost:
    assert isinstance(linear.weight, Constant)
    weight, scheme = job.weights()[linear.weight.name]
    n, k = weight.value.shape[:2]
    return coding_cost(scheme, job.scheme.methods, (n, k), cores, job.scheme.methods.second_order)


def _running(stage: Stage, job: Job) -> int:
    """Bytes while the next matrices are computed."""
    held = _streams(job) * _matrices((*stage.takes, *((stage.x,) if stage.x else ())), job)
    constants = sum(4 * _elements(linear) for linear in stage.linears)
    computed = constants if stage.gives else 0
    return held + _streams(job) * _matrices(stage.gives, job) + int(WEIGHT_COPIES * computed)
