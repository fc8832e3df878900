"""Which linears of an encoder must not read rounded rows: those that lose most to one loud channel of a row.

A row has one scale, so a channel much louder than the others costs these their digits, and behind a GELU no factor
can be moved into the op before (see `smooth`). Errors of independent inputs add up, hence a budget for their sum; what
spares most noise per multiplication is kept exact first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from hearth.compiler.ir.evaluate import run_entry
from hearth.compiler.ir.graph import Graph
from hearth.compiler.ir.meanings import Codes, Value
from hearth.compiler.ir.ops import (
    INTEGERS,
    Attention,
    Constant,
    Input,
    Linear,
    Op,
    Quantize,
    tensor,
)
from hearth.compiler.ir.rewrite import all_outputs, order
from hearth.compiler.ir.tensors import F32
from hearth.compiler.quantize.sample import sample
from hearth.schemas.dtypes import DType

BUDGET = 1 / 100  # noise over signal, summed over the linears that read codes
SPOILT = 1 / 400  # from here on the codes of the loud channel's weights do as much harm


@dataclass(frozen=True)
class Exact:
    """Names of the weights whose linears read f32 rows, and of those among them that are better off without codes."""

    inputs: frozenset[str] = frozenset()
    weights: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Loss:
    """Of one linear: the power of the rounding over that of the row, of the worst row; the weight's elements."""

    noise: float
    elements: int


def exact_linears(coded: Graph) -> Exact:
    """What must stay exact in a graph that is quantised throughout; nothing in decoders and parts of general graphs.

    The noise is that of one text of ids spread over the vocabulary. Codes and integer sums are the same on every
    machine, and float64 sums of a fixed order decide, so the bytes of the archive are the same too.
    """
    return chosen(_losses(coded)) if _sees_all(coded) else Exact()


def _sees_all(graph: Graph) -> bool:
    """Whether it is an encoder whose rows see the whole text; the layers of decoders are coded as in decoders."""
    ops = order(all_outputs(graph))
    given = any(isinstance(op, Input) for op in ops)
    return (
        not given
        and not graph.is_decoder
        and not any(isinstance(op, Attention) and op.causal for op in ops)
    )


def chosen(losses: Mapping[str, Loss]) -> Exact:
    """Spoilt ones, then the costliest noise per multiplication, until the rest keeps to the budget."""
    weights = frozenset(name for name, loss in losses.items() if loss.noise >= SPOILT)
    left = {name: loss for name, loss in losses.items() if name not in weights}
    falling = sorted(left, key=lambda name: (-left[name].noise / left[name].elements, name))
    inputs = set(weights)
    for name in falling:
        if sum(loss.noise for loss in left.values()) <= BUDGET:
            break
        del left[name]
        inputs.add(name)
    return Exact(frozenset(inputs), weights)


def _losses(coded: Graph) -> dict[str, Loss]:
    """By the weight's name, of the linears of the first entry that read codes."""
    rows: dict[Op, F32] = {}
    noise: dict[Op, float] = {}
    entry, outputs = next(iter(coded.entries.items()))
    ops = order(outputs)
    quantised = {op.x for op in ops if isinstance(op, Quantize)}

    def watch(op: Op, value: Value) -> None:
        if op in quantised and isinstance(value, np.ndarray):
            rows[op] = np.asarray(value, np.float32)
        if isinstance(op, Quantize) and isinstance(value, Codes):
            noise[op] = worst_noise(rows[op.x], value)

    run_entry(coded, entry, sample(outputs), watch=watch)
    losses = {}
    for op in ops:
        match op:
            case Linear(x=x, weight=Constant(name=name, value=value)) if x in noise:
                losses[name] = Loss(noise[x], value.shape[0] * value.shape[1])
    return losses


def worst_noise(rows: F32, codes: Codes) -> float:
    """The greatest |x - dequantised(x)|^2 / |x|^2 of the rows, summed one term after the other."""
    x = rows.astype(np.float64)
    error = x - codes.dequantised()
    signal, noise = (np.cumsum(each * each, axis=1)[:, -1] for each in (x, error))
    alive = signal > 0
    return float((noise[alive] / signal[alive]).max(initial=0))


def exact_notes(graph: Graph) -> tuple[str, ...]:
    """How many linears of a quantised encoder stayed exact, for the person who compiles."""
    linears = [op for op in order(all_outputs(graph)) if isinstance(op, Linear)]
    codable = [op for op in linears if tensor(op.weight).dtype in (*INTEGERS, DType.F16)]
    exact = [op for op in codable if tensor(op.x).dtype is DType.F32]
    if graph.is_decoder or not exact or len(exact) == len(codable):
        return ()
    spoilt = sum(tensor(op.weight).dtype is DType.F16 for op in exact)
    return (
        f"{len(exact)} of {len(codable)} linears read f32 rows, {spoilt} of them with f16 weights: "
        "rounding would lose too much there",
    )
