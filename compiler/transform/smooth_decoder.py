"""Loud channels of a decoder move into the weights where an operand, not an op, can undo them.

After SmoothQuant (Xiao et al. 2022, arXiv:2211.10438) and the equivalences of OmniQuant (Shao et al. 2023,
arXiv:2308.13137): channel k of a linear's input is divided by s[k], column k of its weight multiplied by it. What
divides: a norm's gain (before q/k/v and gate/up), V's rows (before o), up's rows (before down: a gated unit is
linear in up), the rows before a ReLU.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from hearth.compiler.ir.graph import Graph
from hearth.compiler.ir.ops import Constant, LastRows, LayerNorm, Linear, Op, RMSNorm, tensor
from hearth.compiler.ir.rewrite import all_outputs, order, rewrite_each, users
from hearth.compiler.ir.tensors import F32, ArraySource, ScaledColumnsSource, Source
from hearth.compiler.transform.mixed import ScaledRows
from hearth.compiler.transform.rotate import value_heads
from hearth.compiler.transform.stream import linears_fed
from hearth.schemas.commands import Activation

BLOCK_ELEMENTS = 1 << 20
STANDS_OUT = 2.0  # times the median of the channels
PEAKS_LEVELS = 7  # the largest code of weights that afford it at every site: of 4 bits
ALPHAS = tuple(step / 10 for step in range(11))
LEVELS = 127.0
CREST = (
    9.0  # square of a channel's largest value over its mean square, as of a Gaussian cut at 3 sigma
)
Norm = RMSNorm | LayerNorm
F64 = NDArray[np.float64]
Indices = NDArray[np.int64]


def smooth_decoder(
    graph: Graph,
    maxima: Mapping[str, F32],
    *,
    norms: bool = True,
    levels: float = LEVELS,
    inputs: float = LEVELS,
) -> Graph:
    """The same ops with scaled constants; the same object where nothing is to gain.

    `maxima`: max |x[k]| of each linear's input f32[K], by the name of its weight; sites without are left alone.
    `norms` False leaves the inputs of q/k/v and gate/up to a rotation that follows. `levels`: the largest code of
    the weights (127; 7 for int4), which decides how much noise a factor brings there; `inputs` that of the inputs,
    infinite where they stay floats (then only the weights' noise counts, as in AWQ, arXiv:2306.00978).
    Factors are powers of two, so no value is rounded: the function stays the same, bit by bit where sums are.
    """
    return _smoothed(graph, lambda site: _factors(site, maxima, levels, inputs), norms)


def _smoothed(graph: Graph, factors_of: Callable[[Site], F32 | None], norms: bool) -> Graph:
    chosen: dict[frozenset[Op], F32 | None] = {}  # by weights: prefill and decode share them
    plan, results = Plan(), _constants_of_results(graph)
    for entry in graph.entries:
        for site in _sites(Graph({entry: graph.entries[entry]}), norms):
            if results.intersection(site.maker.operands):
                continue
            key = frozenset(linear.weight for linear in site.readers)
            if key not in chosen:
                chosen[key] = factors_of(site)
            factors = chosen[key]
            if factors is not None:
                plan.add(site, factors)
    return rewrite_each(graph, plan.rewritten) if plan.columns else graph


def _constants_of_results(graph: Graph) -> set[Op]:
    """Gains and biases of norms whose rows are a result themselves (of a decoder with a pooling), so must stay."""
    found: set[Op] = set()
    for output in all_outputs(graph):
        rows = output.x if isinstance(output, LastRows) else output
        if isinstance(rows, RMSNorm | LayerNorm):
            found.update(rows.operands[1:])
    return found


def quieten_peaks(graph: Graph, maxima: Mapping[str, F32], *, levels: float = LEVELS) -> Graph:
    """The same ops with scaled constants: channels that stand out are brought nearer to the others.

    s is a power of two, about max |x[k]| over twice the median of all channels, and 1 below that. For coarse weights:
    factors that even out all channels cost GPTQ, which weighs columns by itself, more than they spare the inputs, but a
    channel that decides the step of nearly every row of inputs is worth its column. Where the weights' largest code
    `levels` is below that of 4 bits, only what norms give: no other channel is worth a column of so few levels.
    """
    norms_alone = levels < PEAKS_LEVELS

    def factors(site: Site) -> F32 | None:
        loud = _loudness(site, maxima)
        of_norm = isinstance(site.maker, RMSNorm | LayerNorm)
        if loud is None or not loud.any() or (norms_alone and not of_norm):
            return None
        loud = _by_row(loud, site.source, int(site.source.max()) + 1)
        above = np.maximum(loud / (STANDS_OUT * np.median(loud[loud > 0])), 1)
        found = np.exp2(np.rint(np.log2(above)))
        return None if (found == 1).all() else found.astype(np.float32)

    return _smoothed(graph, factors, norms=True)


@dataclass(frozen=True, eq=False)
class Site:
    """Linears that read one input, and what can divide it: a norm, or rows first.. of the linear that makes it.

    `source[k]` is the row, counted from `first`, that makes input channel k (query heads share a value head's rows).
    """

    readers: tuple[Linear, ...]
    maker: Norm | Linear
    first: int
    source: Indices


def _sites(graph: Graph, norms: bool) -> Iterator[Site]:
    """The sites of one entry."""
    readers = users(graph)
    yield from _value_sites(graph, readers)
    for op in order(all_outputs(graph)):
        match op:
            case Linear(residual=None, activation=activation) if _lets_through(activation):
                site = _linear_site(op, readers)
            case RMSNorm() | LayerNorm() if norms:
                site = _norm_site(op, readers)
            case _:
                continue
        if site is not None:
            yield site


Readers = Mapping[Op, list[Op]]


def _value_sites(graph: Graph, readers: Readers) -> Iterator[Site]:
    for heads in value_heads(graph):
        dim, width = heads.head_dim, int(tensor(heads.outputs[0].weight).shape[1])
        shared = width // (heads.last - heads.first)  # query heads of a value head
        head = np.arange(width // dim) // shared
        source = (head[:, None] * dim + np.arange(dim)).reshape(-1)
        if all(_own(each, readers) for each in (heads.values, *heads.outputs)):
            yield Site(heads.outputs, heads.values, heads.first, source)


def _lets_through(activation: Activation) -> bool:
    """Whether a factor of (the second half of) the rows is one of the result."""
    return activation.gate is not None or activation is Activation.RELU


def _linear_site(op: Linear, readers: Readers) -> Site | None:
    """down after a gated unit (up's rows are the second half), or after ReLU, which factors pass through."""
    fed = _linears(op, readers)
    count = int(tensor(op).shape[1])
    first = count if op.activation.gate is not None else 0
    return Site(fed, op, first, np.arange(count)) if fed and _own(op, readers) else None


def _norm_site(op: Norm, readers: Readers) -> Site | None:
    fed = _linears(op, readers)
    own = all(len(readers[constant]) == 1 and _floats(constant) for constant in op.operands[1:])
    return Site(fed, op, 0, np.arange(int(tensor(op).shape[1]))) if fed and own else None


def _linears(op: Op, readers: Readers) -> tuple[Linear, ...]:
    """The linears that read op, if nothing else does and their constants are their own; else none."""
    fed = linears_fed(op, readers) or ()
    return fed if all(_own(each, readers) for each in fed) else ()


def _own(linear: Linear, readers: Readers) -> bool:
    """Whether the weight and the bias are floats that no other op of the entry reads."""
    constants = [each for each in (linear.weight, linear.bias) if each is not None]
    return all(len(readers[each]) == 1 and _floats(each) for each in constants)


def _floats(op: Op) -> bool:
    return isinstance(op, Constant) and isinstance(op.value, Source)


def _values(op: Op) -> Source:
    if not isinstance(op, Constant) or not isinstance(op.value, Source):
        raise TypeError("a site's constants are floats")
    return op.value


def _loudness(site: Site, maxima: Mapping[str, F32]) -> F64 | None:
    """max |x[k]| of what the readers read; None where it is not known of all."""
    names = [linear.weight.name for linear in site.readers if isinstance(linear.weight, Constant)]
    known = [maxima[name] for name in names if name in maxima]
    return np.max(known, axis=0).astype(np.float64) if len(known) == len(site.readers) else None


def _factors(site: Site, maxima: Mapping[str, F32], levels: float, inputs: float) -> F32 | None:
    """s by row of the maker: the alpha of the least noise; None where 1 is as good."""
    loudness = _loudness(site, maxima)
    if loudness is None:
        return None
    weights = [Columns(_values(linear.weight), loudness) for linear in site.readers]
    widest = np.max([each.widest() for each in weights], axis=0)
    rows = int(site.source.max()) + 1
    loud, wide = (_by_row(each, site.source, rows) for each in (loudness, widest))
    candidates = [np.ones(rows), *(_powers_of_two(loud, wide, alpha) for alpha in ALPHAS)]
    spread = np.stack([each[site.source] for each in candidates])
    noise = np.sum([each.noise(spread, levels, inputs) for each in weights], axis=0)
    best = int(np.argmin(noise))
    return None if best == 0 else candidates[best].astype(np.float32)


def _by_row(values: F64, source: Indices, rows: int) -> F64:
    """The largest value of the channels that a row makes."""
    largest = np.zeros(rows)
    np.maximum.at(largest, source, values)
    return largest


def _powers_of_two(loud: F64, wide: F64, alpha: float) -> F64:
    """loud^alpha / wide^(1 - alpha) over its median, rounded to powers of two; 1 where either is 0."""
    alive = (loud > 0) & (wide > 0)
    if not alive.any():
        return np.ones_like(loud)
    log = np.zeros_like(loud)
    log[alive] = alpha * np.log2(loud[alive]) - (1 - alpha) * np.log2(wide[alive])
    log[alive] -= np.median(log[alive])
    return np.exp2(np.rint(log))


@dataclass(frozen=True, eq=False)
class Columns:
    """A weight whose rows are taken relative to what they give: w[n, :] over the power of its result."""

    weight: Source
    loudness: F64  # max |x[k]|

    def widest(self) -> F64:
        """max over rows of |w[n, k]|, relative."""
        found = np.zeros(len(self.loudness))
        for block in self._blocks():
            found = np.maximum(found, block.max(axis=0))
        return found

    def noise(self, factors: F64, levels: float, inputs: float) -> F64:
        """For each row of factors f64[C, K] the mean of noise over signal, uniform rounding on both sides.

        Inputs x / s have a step of max(|x| / s) / inputs, weights w * s one of max(|w| * s) / levels in each row.
        """
        quiet = self.loudness / factors
        squares, widest = np.zeros(len(self.loudness)), np.zeros(len(factors))
        for block in self._blocks():
            squares += np.square(block).sum(axis=0, dtype=np.float64)
            for at, each in enumerate(factors.astype(np.float32)):
                widest[at] += np.square((block * each).max(axis=1), dtype=np.float64).sum()
        rounded = np.square(quiet.max(axis=1) / inputs) / 12 * (np.square(factors) @ squares)
        weights = np.square(quiet).sum(axis=1) / CREST * widest / levels**2 / 12
        return np.asarray((rounded + weights) / self.weight.shape[0], np.float64)

    def _blocks(self) -> Iterator[F32]:
        """|w[n, k]| relative, in bounded memory."""
        n, k = self.weight.shape
        step = max(1, BLOCK_ELEMENTS // k)
        for start in range(0, n, step):
            block = np.abs(self.weight.rows(start, min(start + step, n)))
            power = np.sqrt(np.square(block * self.loudness.astype(np.float32)).sum(axis=1) / CREST)
            yield np.asarray(block / np.where(power > 0, power, 1)[:, None], np.float32)


@dataclass(eq=False)
class Plan:
    """Factors by op; new constants are shared by all ops that change the same constant."""

    columns: dict[Op, F32] = field(default_factory=dict)
    rows: dict[Op, tuple[int, F32]] = field(default_factory=dict)
    made: dict[Op, Constant] = field(default_factory=dict)
    named: dict[Op, Op] = field(
        default_factory=dict
    )  # the weight that a norm's new gain takes its name from
    gains: dict[Op, Constant] = field(default_factory=dict)

    def add(self, site: Site, factors: F32) -> None:
        self.rows[site.maker] = site.first, np.asarray(1 / factors, np.float32)
        self.named[site.maker] = site.readers[0].weight
        for linear in site.readers:
            self.columns[linear] = factors[site.source]

    def rewritten(self, op: Op, rebuilt: Op) -> Op:
        """The op over other constants."""
        match op, rebuilt:
            case Linear(), Linear() if op in self.columns or op in self.rows:
                weight, bias = self._scaled(op.weight, op), op.bias and self._scaled(op.bias, op)
                return replace(rebuilt, weight=weight, bias=bias)
            case RMSNorm(), RMSNorm() if op in self.rows:
                return replace(rebuilt, gain=self._gain(op))
            case LayerNorm(), LayerNorm() if op in self.rows:
                bias = op.bias and self._scaled(op.bias, op)
                return replace(rebuilt, gain=self._gain(op), bias=bias)
        return rebuilt

    def _scaled(self, constant: Op, op: Op) -> Constant:
        """A weight, bias or gain with its rows, and a weight with its columns scaled."""
        if constant not in self.made:
            source = _values(constant)
            if op in self.rows:
                source = ScaledRows(source, *self.rows[op])
            if op in self.columns and len(source.shape) == 2:
                source = ScaledColumnsSource(source, ArraySource(self.columns[op]))
            name = constant.name if isinstance(constant, Constant) else ""
            self.made[constant] = Constant(name, source)
        return self.made[constant]

    def _gain(self, norm: Norm) -> Constant:
        """The norm's gain divided; where it has none, one that both entries share, named after the weight it feeds."""
        if norm.gain is not None:
            return self._scaled(norm.gain, norm)
        weight = self.named[norm]
        if weight not in self.gains:
            name = weight.name if isinstance(weight, Constant) else ""
            self.gains[weight] = Constant(f"{name}/gain", ArraySource(self.rows[norm][1]))
        return self.gains[weight]
