"""What each way of storing each weight costs: the divergence that one coded weight causes, from few runs of the model.

A small change of a weight raises the loss in proportion to the power of the noise that it adds to what its linear
gives (the loss is at a minimum, so the first order vanishes; LeCun et al. 1989, "Optimal Brain Damage"). So the
divergence of the float model from itself with this weight alone coded is measured once for each weight, with a
scheme in the middle of the range, and carried over to the other schemes by the ratio of their noise, which is
measured on some of the weight's rows (rows are independent): the power of x @ (W - coded W)^T, x what it reads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hearth.compiler.check.blocks import Ids, run_blocks, walk
from hearth.compiler.ir.graph import Graph
from hearth.compiler.ir.ops import Constant, Embedding, Linear, Tokens
from hearth.compiler.ir.rewrite import order, rewrite
from hearth.compiler.ir.tensors import F32, Source
from hearth.compiler.judge.noise import NOISE, every_row, linears
from hearth.compiler.quantize.schemes import WeightScheme
from hearth.runtime.evaluation.scoring import log_probabilities

Code = Callable[[F32, WeightScheme], F32]
SAMPLE_ROWS = 96
LOGIT_ROWS = 64  # whose doubles are worked on at once
WORK = 6e13  # operations of all runs together, about
MOST_TOKENS, LEAST_TOKENS = 2048, 256


@dataclass(frozen=True)
class Sensitivity:
    """Of one weight: the divergence (mean nats a token) that each scheme causes."""

    name: str
    loss: Mapping[WeightScheme, float]


def token_budget(parameters: int, weights: int) -> int:
    """Tokens to run, so that the work stays bounded: 2 operations a parameter and token, one run a weight."""
    wanted = WORK / (2 * max(parameters, 1) * (weights + 1))
    return int(min(max(wanted, LEAST_TOKENS), MOST_TOKENS))


def codable(graph: Graph) -> dict[str, Constant]:
    """The float weights that a scheme codes, by name: those of linears and the table of the vocabulary."""
    found: dict[str, Constant] = {}
    for op in order(graph.entries[NOISE]):
        match op:
            case (
                Linear(weight=Constant() as weight)
                | Embedding(table=Constant() as weight, tokens=Tokens(port="tokens"))
            ) if isinstance(weight.value, Source):
                found[weight.name] = weight
    return found


def sensitivities(
    graph: Graph,
    calls: Sequence[Ids],
    candidates: Mapping[str, Sequence[WeightScheme]],
    reference: WeightScheme,
    code: Code,
    *,
    threads: int = 0,
    advance: Callable[[int], None] = lambda _: None,
) -> list[Sensitivity]:
    """Of every weight of a float decoder that has candidates.

    `code` gives what rows f32[n, K] become under a scheme, as floats; `advance` hears of each weight.
    """
    lone = every_row(graph)
    weights = {name: each for name, each in codable(lone).items() if name in candidates}
    noise = _noises(lone, calls, weights, candidates, reference, code, threads)
    floats = _log_probabilities(lone, calls, threads)
    found = []
    for name, weight in weights.items():
        measured = _divergence(floats, _with(lone, weight, reference, code), calls, threads)
        powers = noise[name]
        per_power = measured / powers[reference] if powers[reference] else 0.0
        losses = {scheme: per_power * powers[scheme] for scheme in candidates[name]}
        found.append(Sensitivity(name, losses))
        advance(1)
    return found


@dataclass(frozen=True, eq=False)
class Recoded:
    """What a weight becomes under a scheme, range of rows by range (rows are independent)."""

    source: Source
    scheme: WeightScheme
    code: Code
    stored: str = "f32"

    @property
    def shape(self) -> tuple[int, ...]:
        return self.source.shape

    def rows(self, start: int, stop: int) -> F32:
        return self.code(self.source.rows(start, stop), self.scheme)


def _with(graph: Graph, weight: Constant, scheme: WeightScheme, code: Code) -> Graph:
    assert isinstance(weight.value, Source)
    new = Constant(weight.name, Recoded(weight.value, scheme, code))
    return rewrite(graph, lambda op: new if op is weight else None)


Powers = dict[WeightScheme, float]


def _noises(
    graph: Graph,
    calls: Sequence[Ids],
    weights: Mapping[str, Constant],
    candidates: Mapping[str, Sequence[WeightScheme]],
    reference: WeightScheme,
    code: Code,
    threads: int,
) -> dict[str, Powers]:
    """Power of the noise of each scheme on some rows; of a table that no linear reads, of its values."""
    readers = {op.weight: op for op in linears(graph).values() if op.weight in weights.values()}
    found: dict[str, Powers] = {}

    def measure(weight: Constant, x: F32 | None) -> None:
        rows = _some_rows(weight.value)
        schemes = dict.fromkeys((reference, *candidates[weight.name]))
        found[weight.name] = {scheme: _power(code(rows, scheme) - rows, x) for scheme in schemes}

    watched = {op: op.x for op in readers.values()}
    for held in walk(graph, NOISE, calls, watch=list(watched.values()), threads=threads):
        for op, x in watched.items():
            weight = op.weight
            if isinstance(weight, Constant) and weight.name not in found and x in held[0]:
                measure(weight, np.concatenate([values[x] for values in held]))
    for name, weight in weights.items():
        if name not in found:
            measure(weight, None)
    return found


def _power(error: F32, x: F32 | None) -> float:
    product = error if x is None else x @ error.T
    return float(np.square(product, dtype=np.float64).mean())


def _some_rows(source: object) -> F32:
    """At most SAMPLE_ROWS rows, evenly spread."""
    assert isinstance(source, Source)
    n = source.shape[0]
    if n <= SAMPLE_ROWS:
        return source.rows(0, n)
    places = np.linspace(0, n - 1, SAMPLE_ROWS).astype(int)
    return np.concatenate([source.rows(int(each), int(each) + 1) for each in places])


def _logits(graph: Graph, calls: Sequence[Ids], threads: int) -> Iterator[F32]:
    for (rows,) in run_blocks(graph, NOISE, calls, threads=threads):
        for start in range(0, len(rows), LOGIT_ROWS):
            yield rows[start : start + LOGIT_ROWS]


def _log_probabilities(graph: Graph, calls: Sequence[Ids], threads: int) -> list[F32]:
    """In pieces of LOGIT_ROWS rows, f32."""
    return [log_probabilities(rows).astype(np.float32) for rows in _logits(graph, calls, threads)]


def _divergence(floats: Sequence[F32], graph: Graph, calls: Sequence[Ids], threads: int) -> float:
    """Mean KL(float || coded) of all rows, in nats."""
    total, count = 0.0, 0
    for wanted, rows in zip(floats, _logits(graph, calls, threads), strict=True):
        p: NDArray[np.float64] = wanted.astype(np.float64)
        total += float((np.exp(p) * (p - log_probabilities(rows))).sum())
        count += len(rows)
    return max(total, 0.0) / max(count, 1)
