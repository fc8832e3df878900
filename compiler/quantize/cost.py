"""What coding a tensor costs: seconds and bytes, for the prediction of a calibrated compile."""

from __future__ import annotations

from dataclasses import dataclass

from hearth.compiler.quantize.coding import BATCH_ELEMENTS, SWEEPS
from hearth.compiler.quantize.lwc import CLIP, KEEP, UNGROUPED_BLOCK
from hearth.compiler.quantize.schemes import LEARNED, Form, Methods, WeightScheme
from hearth.compiler.quantize.tables import ROUNDS, SAMPLE_ELEMENTS

# Seconds of one core (AMD EPYC Zen 4, AVX-512, 2026-11-21; docs/quantisation-results.md).
PRODUCT = 2.6e-11  # a term of a sum over columns in float32
FACTOR = 1.0e-10  # likewise of a Cholesky factor in float64
SEARCH, SEARCH_GROUP = 2.2e-8, 1.07e-6  # of a weight, and of a group
CHANNEL = 6e-9  # of a weight without groups
ROUND = 9e-9  # of a weight by round to nearest
PASS = 1e-8  # of a weight in a pass over its columns, beside the products
TRIAL, TRIAL_COLUMN = (
    1.1e-9,
    2.1e-11,
)  # of a weight under one multiplier, and for each column of its block
TILE = 32 * 5  # floats of a column of K in the scratch of a thread


@dataclass(frozen=True)
class Cost:
    """Seconds of wall time on the threads asked for; the most bytes beside weights, Hessian and result."""

    seconds: float
    nbytes: int


def coding_cost(
    scheme: WeightScheme, methods: Methods, shape: tuple[int, int], threads: int, known: bool = True
) -> Cost:
    """Of a tensor [N, K]; `known`: with a Hessian. The machine of the constants; scale seconds for another."""
    n, k = shape
    second_order = known and (methods.gptq or methods.lwc)
    seconds = n * k * _search(scheme, methods, known)
    if scheme in LEARNED:
        seconds += (
            min(n * k, SAMPLE_ELEMENTS) * 2 * ROUNDS * (_search(scheme, methods, True) + 1e-7)
        )
    if second_order:
        seconds += n * k * _second_order(scheme, methods, k)
        seconds += k**3 / 6 * FACTOR if methods.gptq else 0
    return Cost(seconds / threads, _nbytes((n, k), methods, second_order, known, threads))


def _search(scheme: WeightScheme, methods: Methods, known: bool) -> float:
    """Seconds of a weight."""
    if scheme.form is Form.INTEGER and not (known and methods.second_order):
        return ROUND
    return SEARCH + SEARCH_GROUP / scheme.group if scheme.group else CHANNEL


def _second_order(scheme: WeightScheme, methods: Methods, k: int) -> float:
    """Seconds of a weight: two products with the Hessian, sweeps, GPTQ's half product."""
    trials = len(CLIP if methods.lwc and scheme.group else KEEP)
    block = scheme.group or UNGROUPED_BLOCK
    sweep = k * PRODUCT + PASS + (trials + 1) * (TRIAL + block * TRIAL_COLUMN)
    fed = k / 2 * PRODUCT + PASS if methods.gptq else 0.0
    return 2 * k * PRODUCT + SWEEPS * sweep + fed


def _nbytes(
    shape: tuple[int, int], methods: Methods, second_order: bool, known: bool, threads: int
) -> int:
    n, k = shape
    batch = min(max(BATCH_ELEMENTS, k), n * k) * 4 * 3
    if not known:
        return batch
    matrices = 4 * k * k  # the damped copy
    if second_order and methods.gptq:
        matrices += 12 * k * k  # the factor, in float64 first
    return batch + matrices + threads * k * TILE * 4
