"""Norms that feed both linears and residuals: their loud channels move from the linears' inputs into the weights.

After SmoothQuant (Xiao et al. 2022, arXiv:2211.10438): channel k of the input is divided by s[k], column k of the
weight multiplied with it, s = sqrt(max|x_k| / max|w_k|) over its median, at least 1. Here s is a power of two, so that
both are exact, and the maxima come from one text (see `sample`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from hearth.compiler.ir.evaluate import run_entry
from hearth.compiler.ir.graph import Graph
from hearth.compiler.ir.meanings import Value
from hearth.compiler.ir.ops import Constant, Input, LayerNorm, Linear, Op, RMSNorm
from hearth.compiler.ir.rewrite import all_outputs, order, rewrite, users
from hearth.compiler.ir.tensors import F32, ArraySource, ScaledColumnsSource, Source, read
from hearth.compiler.quantize.sample import sample

BLOCK_ELEMENTS = 1 << 20
Norm = RMSNorm | LayerNorm


@dataclass(frozen=True, eq=False)
class Shared:
    """A norm with a gain, and those of its readers that are linears with a weight of their own."""

    norm: Norm
    gain: Constant
    linears: tuple[Linear, ...]


def smooth(graph: Graph, coded: Graph) -> Graph:
    """The graph with the linears behind shared norms reading a quieter copy; itself where there is no such norm.

    `coded` is the same graph as it would be quantised: integer sums are exact, so the maxima, and with them the
    bytes of the archive, are the same on every machine.
    """
    shared = _shared(graph)
    if not shared or any(isinstance(op, Input) for op in order(all_outputs(graph))):
        return graph  # a part of a general graph: what its inputs are like is not known
    loudness = _loudness(coded, {each.gain for each in shared})
    factors = {each.gain: _factors(each, loudness[each.gain]) for each in shared}
    chosen = {
        linear.weight: each.gain
        for each in shared
        for linear in each.linears
        if (factors[each.gain] > 1).any()
    }
    quiet: dict[Op, Op] = {}  # one quieter copy per norm

    def rule(op: Op) -> Op | None:
        match op:
            case Linear(x=RMSNorm() | LayerNorm() as norm, weight=Constant() as weight) if (
                weight in chosen and isinstance(weight.value, Source)
            ):
                s = factors[chosen[weight]]
                x = quiet.setdefault(norm, _quieter(norm, s))
                scaled = ScaledColumnsSource(weight.value, ArraySource(s))
                return replace(op, x=x, weight=Constant(weight.name, scaled))
        return None

    return rewrite(graph, rule)


def _shared(graph: Graph) -> list[Shared]:
    readers = users(graph)
    found = []
    for op in order(all_outputs(graph)):
        match op:
            case RMSNorm(gain=Constant() as gain) | LayerNorm(gain=Constant() as gain):
                fed = readers.get(op, [])
                linears = (each for each in fed if isinstance(each, Linear))
                own = tuple(each for each in linears if _takes(each, op, readers))
                if own and len(own) < len(fed):
                    found.append(Shared(op, gain, own))
    return found


def _takes(linear: Linear, norm: Op, readers: Mapping[Op, list[Op]]) -> bool:
    """Whether the norm's result is the linear's input alone, and its weight nobody else's."""
    match linear:
        case Linear(x=x, weight=Constant(value=value) as weight, residual=residual):
            alone = x is norm and residual is not norm and len(readers[weight]) == 1
            return alone and isinstance(value, Source)
    return False


def _loudness(graph: Graph, gains: set[Constant]) -> dict[Constant, F32]:
    """max |x_k| over the rows of each norm's result, by its gain (which coding the weights leaves as it is)."""
    loudest: dict[Constant, F32] = {}

    def watch(op: Op, value: Value) -> None:
        match op:
            case RMSNorm(gain=Constant() as gain) | LayerNorm(gain=Constant() as gain):
                if gain in gains and isinstance(value, np.ndarray):
                    loudest[gain] = np.asarray(np.abs(value).max(axis=0), np.float32)

    entry = next(iter(graph.entries))
    run_entry(graph, entry, sample(graph.entries[entry]), watch=watch)
    return loudest


def _factors(shared: Shared, loudness: F32) -> F32:
    """s[k], powers of two."""
    widest = np.max([_widest(linear) for linear in shared.linears], axis=0)
    alive = (widest > 0) & (loudness > 0)
    if not alive.any():
        return np.ones_like(loudness)
    ratio = np.where(alive, loudness, np.float32(1)) / np.where(alive, widest, np.float32(1))
    _, exponent = np.frexp(ratio / np.median(ratio[alive]))
    rounded = np.ldexp(np.float32(1), exponent // 2)  # the power of two nearest to the root
    return np.asarray(np.where(alive, np.maximum(rounded, 1), 1), np.float32)


def _widest(linear: Linear) -> F32:
    """max |w_k| of the columns of a weight, in bounded memory."""
    weight = linear.weight
    if not isinstance(weight, Constant) or not isinstance(weight.value, Source):
        raise TypeError("the weight must be floats")
    n, k = weight.value.shape
    step = max(1, BLOCK_ELEMENTS // k)
    widest = np.zeros(k, np.float32)
    for start in range(0, n, step):
        block = np.abs(weight.value.rows(start, min(start + step, n)))
        widest = np.maximum(widest, block.max(axis=0))
    return widest


def _quieter(norm: Norm, s: F32) -> Norm:
    """The norm with gain and bias divided by s (exactly: powers of two)."""
    match norm:
        case RMSNorm(gain=gain):
            return replace(norm, gain=_divided(gain, s))
        case LayerNorm(gain=gain, bias=bias):
            return replace(norm, gain=_divided(gain, s), bias=_divided(bias, s))


def _divided(vector: Op | None, s: F32) -> Op | None:
    match vector:
        case Constant(name=name, value=value) if isinstance(value, Source):
            return Constant(f"{name}/s", ArraySource(read(value) / s))
    return vector
