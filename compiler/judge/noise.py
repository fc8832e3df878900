"""Signal-to-noise ratios of a coded graph against the float graph it was made of, tensor by tensor, block by block.

For each linear two numbers, in decibels (10 log10 of the power of the float values over that of the differences):

* alone: of the product x @ W^T, where x is what the float graph reads and only this weight is coded;
* together: of the linear's result in the coded graph, where everything before it is coded too. Of a linear that
  adds to the residual stream that result is the stream, so its numbers along the layers show the noise pile up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import log10

import numpy as np
from numpy.typing import NDArray

from hearth.compiler.check.blocks import Ids, Values, float_rows, walk
from hearth.compiler.ir.graph import Graph
from hearth.compiler.ir.ops import Constant, Embedding, LastRows, Linear
from hearth.compiler.ir.rewrite import order, rewrite
from hearth.compiler.ir.tensors import F32

ENTRY = "prefill"
NOISE = "noise"
BATCH_ELEMENTS = 1 << 22  # of a weight, read at once


@dataclass(frozen=True)
class TensorNoise:
    """One weight. Ratios in decibels, None without any noise; `bits` as stored, with multipliers and scales.

    `stream`: its linear adds to the residual stream.
    """

    name: str
    form: str
    bits: float
    alone: float | None
    together: float | None
    stream: bool


@dataclass
class Ratio:
    """Sums of squares, in f64."""

    signal: float = 0.0
    noise: float = 0.0

    def add(self, wanted: NDArray[np.floating], found: NDArray[np.floating]) -> None:
        difference = found.astype(np.float64) - wanted
        self.signal += float(np.square(wanted, dtype=np.float64).sum())
        self.noise += float(np.square(difference).sum())

    @property
    def decibels(self) -> float | None:
        if not self.noise:
            return None
        return 10 * log10(self.signal / self.noise) if self.signal else -np.inf


def every_row(graph: Graph) -> Graph:
    """The prefill entry alone, with all rows of what it gives only the last of."""
    one = Graph({NOISE: graph.entries[ENTRY][:1]})
    return rewrite(one, lambda op: op.x if isinstance(op, LastRows) else None)


def linears(graph: Graph) -> dict[str, Linear]:
    """Every linear by the name of its weight, in order; one that reads a weight again is numbered."""
    found: dict[str, Linear] = {}
    for op in order(graph.entries[NOISE]):
        if isinstance(op, Linear) and isinstance(op.weight, Constant):
            name, number = op.weight.name, 2
            while name in found:
                name, number = f"{op.weight.name} ({number})", number + 1
            found[name] = op
    return found


def noise(
    floats: Graph,
    coded: Graph,
    calls: Sequence[Ids],
    bits: Callable[[str], tuple[str, float]],
    *,
    threads: int = 0,
    advance: Callable[[int], None] = lambda _: None,
) -> list[TensorNoise]:
    """Of every weight, in the order of the program, tables that are no linear's weight first.

    `floats` and `coded` are decoders after the same passes; `calls` feed their prefill entry from position 0 on;
    `bits` gives the form and the stored bits per value of a weight. Holds the weights of one block at a time.
    """
    graphs = every_row(floats), every_row(coded)
    pairs = {
        name: (op, other)
        for (name, op), other in zip(
            linears(graphs[0]).items(), linears(graphs[1]).values(), strict=True
        )
    }
    alone, together = ({name: Ratio() for name in pairs} for _ in range(2))
    read = [op for pair in pairs.values() for op in (pair[0].x, pair[0])]
    made = [other for _, other in pairs.values()]
    mine = walk(graphs[0], NOISE, calls, watch=read, threads=threads)
    theirs = walk(graphs[1], NOISE, calls, watch=made, threads=threads)
    for name, seen, found in _in_step(pairs, mine, theirs):
        for values, y in zip(seen, found, strict=True):
            _alone(alone[name], values.x, pairs[name])
            together[name].add(values.y, y)
        advance(1)
    return [
        *_tables(graphs, set(pairs), bits),
        *(
            TensorNoise(
                name,
                *bits(_weight(op).name),
                alone[name].decibels,
                together[name].decibels,
                op.residual is not None,
            )
            for name, (op, _) in pairs.items()
        ),
    ]


@dataclass(frozen=True)
class Seen:
    """What a float linear read and gave in one call."""

    x: F32
    y: F32


Pairs = Mapping[str, tuple[Linear, Linear]]


def _in_step(
    pairs: Pairs, floats: Iterator[list[Values]], coded: Iterator[list[Values]]
) -> Iterator[tuple[str, list[Seen], list[F32]]]:
    """Both graphs, each as far as the next block of the other needs; what one made first waits."""
    first: dict[str, list[Seen]] = {}
    second: dict[str, list[F32]] = {}
    done: set[str] = set()
    while len(done) < len(pairs):
        left = [name for name in pairs if name not in done]
        if len(first) <= len(second):
            held = next(floats)
            for name in left:
                op = pairs[name][0]
                if op in held[0] and name not in first:
                    first[name] = [Seen(values[op.x], values[op]) for values in held]
        else:
            held = next(coded)
            for name in left:
                op = pairs[name][1]
                if op in held[0] and name not in second:
                    second[name] = [values[op] for values in held]
        for name in [name for name in first if name in second]:
            yield name, first.pop(name), second.pop(name)
            done.add(name)


def _weight(op: Linear) -> Constant:
    assert isinstance(op.weight, Constant)
    return op.weight


def _alone(ratio: Ratio, x: F32, pair: tuple[Linear, Linear]) -> None:
    wanted, found = (_weight(op).value for op in pair)
    for start, stop in _ranges(wanted.shape):
        rows = float_rows(wanted, start, stop)
        ratio.signal += float(np.square(x @ rows.T, dtype=np.float64).sum())
        error = float_rows(found, start, stop) - rows
        ratio.noise += float(np.square(x @ error.T, dtype=np.float64).sum())


def _tables(
    graphs: tuple[Graph, Graph], named: set[str], bits: Callable[[str], tuple[str, float]]
) -> Iterator[TensorNoise]:
    """Embedding tables that are read by rows only: the noise of their values."""
    tables = [
        {
            op.table.name: op.table.value
            for op in order(graph.entries[NOISE])
            if isinstance(op, Embedding) and isinstance(op.table, Constant)
        }
        for graph in graphs
    ]
    for name, table in tables[0].items():
        if name not in named:
            ratio = Ratio()
            for start, stop in _ranges(table.shape):
                ratio.add(float_rows(table, start, stop), float_rows(tables[1][name], start, stop))
            yield TensorNoise(name, *bits(name), ratio.decibels, ratio.decibels, False)


def _ranges(shape: tuple[int, ...]) -> Iterator[tuple[int, int]]:
    step = max(1, BATCH_ELEMENTS // shape[1])
    for start in range(0, shape[0], step):
        yield start, min(start + step, shape[0])
