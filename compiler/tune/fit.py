"""Method `tune`: the scales of channels and groups and the gains of norms, fitted by the model's own answers.

Codes stay; what they are multiplied with is fitted end to end by gradient descent (Adam, Kingma & Ba 2014,
arXiv:1412.6980), so that the coded model's next-token distribution is the float model's: the least mean
KL(float || coded) over the calibration windows. Scales as in EfficientQAT's second phase (Chen et al. 2024,
arXiv:2407.11062), gains as in norm tweaking (Li et al. 2023, arXiv:2309.02784). No bit and no op is added.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from hearth.compiler.ir.ops import Constant, Linear, Op
from hearth.compiler.ir.tensors import (
    F32,
    ArraySource,
    OverCodes,
    QuantisedRows,
    QuantisedSource,
    Source,
    read,
    round_bf16,
)
from hearth.compiler.tune.gradient import Ids, Network
from hearth.compiler.tune.rounding import UNROUNDED, Roundings
from hearth.runtime.progress import Progress, step

EPOCHS = 3
BATCH = 2  # windows of one step
RATE = 4e-3  # of the first step; it falls to 0 along a line
FIRST, SECOND, LEAST = 0.9, 0.99, 1e-8  # Adam's
SEED = 0
HIGHEST = 127  # multiplier of a table


@dataclass(frozen=True, eq=False)
class Rescaled(OverCodes):
    """A coded weight whose groups (of a table) or channels take factors f32[N, groups or 1]."""

    factors: F32

    def quantised(self, start: int, stop: int) -> QuantisedRows:
        rows, factors = self.source.quantised(start, stop), self.factors[start:stop]
        if rows.table is None or rows.multipliers is None:
            scale = np.asarray(rows.scale * factors[:, 0], np.float32)
            return QuantisedRows(rows.codes, rows.multipliers, scale, rows.group, rows.table)
        wanted = rows.multipliers * factors
        beyond = np.maximum(np.abs(wanted).max(axis=1) / np.float32(HIGHEST), np.float32(1))
        scale = round_bf16(np.asarray(rows.scale * beyond, np.float32))
        back = np.where(scale > 0, rows.scale, 0) / np.where(scale > 0, scale, np.float32(1))
        multipliers = np.clip(np.rint(wanted * back[:, None]), -HIGHEST, HIGHEST).astype(np.int8)
        return QuantisedRows(rows.codes, multipliers, scale, rows.group, rows.table)


@dataclass(frozen=True, eq=False)
class Tuned:
    """A constant that is tuned: its values [N, K] or [E], and how many of them share a factor."""

    values: F32
    group: int

    @property
    def ones(self) -> F32:
        if self.values.ndim == 1:
            return np.ones_like(self.values)
        n, k = self.values.shape
        return np.ones((n, -(-k // self.group)), np.float32)

    def scaled(self, factors: F32) -> F32:
        """The values under factors."""
        return self.values * self._spread(factors)

    def gradient(self, given: F32) -> F32:
        """Of the factors, from that of the values."""
        along = given * self.values
        if along.ndim == 1:
            return along
        return np.add.reduceat(along, np.arange(0, along.shape[1], self.group), axis=1)

    def _spread(self, factors: F32) -> F32:
        if self.values.ndim == 1:
            return factors
        return np.repeat(factors, self.group, axis=1)[:, : self.values.shape[1]]


@dataclass(eq=False)
class Adam:
    """Factors, and what their gradients were."""

    factors: dict[str, F32]
    steps: int
    done: int = 0
    first: dict[str, F32] = field(default_factory=dict)
    second: dict[str, F32] = field(default_factory=dict)

    def move(self, gradients: Mapping[str, F32]) -> None:
        """One step against the gradients."""
        rate = RATE * (1 - self.done / self.steps)
        self.done += 1
        for name, given in gradients.items():
            first = self.first.setdefault(name, np.zeros_like(given))
            second = self.second.setdefault(name, np.zeros_like(given))
            first += np.float32(1 - FIRST) * (given - first)
            second += np.float32(1 - SECOND) * (given * given - second)
            mean = first / np.float32(1 - FIRST**self.done)
            power = second / np.float32(1 - SECOND**self.done)
            self.factors[name] -= np.float32(rate) * mean / (np.sqrt(power) + np.float32(LEAST))


def tune(
    logits: Op,
    coded: Mapping[str, QuantisedSource | Source],
    ids: Ids,
    progress: Progress,
    epochs: int = EPOCHS,
    roundings: Roundings = UNROUNDED,
) -> dict[str, QuantisedSource | Source]:
    """The coded weights and the gains that take the place of those of a float decoder, by name.

    `logits` are all rows of its prefill entry, `ids` i32[W, T] the windows, `roundings` those of the archive to be,
    with which the coded model computes. UsageError calibration.tune for graphs with ops that have no gradient here.
    Memory: all weights four times, in f32.
    """
    network, exact = Network(logits, roundings), Network(logits)
    floats = {each.name: _read(each) for each in network.constants}
    tuned = {
        name: _tuned(coded.get(name), floats[name])
        for name in sorted(network.weights)
        if name in coded or floats[name].ndim == 1
    }
    batches = max(1, len(ids) // BATCH)
    fit = Adam({name: each.ones for name, each in tuned.items()}, epochs * batches)
    random, wanted = np.random.default_rng(SEED), _Answers(exact, floats, ids)
    with step(progress, "tune", epochs * batches) as advance:
        for _ in range(epochs):
            for chosen in np.array_split(random.permutation(len(ids)), batches):
                windows = ((ids[each], wanted[each]) for each in chosen)
                fit.move(_gradients(network, floats, tuned, fit.factors, windows))
                advance(1)
    applied = {
        name: _applied(coded.get(name), tuned[name], factors)
        for name, factors in fit.factors.items()
    }
    return {**coded, **applied}


def loss(wanted: F32, found: F32) -> tuple[float, F32]:
    """Mean KL of the rows' distributions, from logits f32[T, V], and its gradient for those found."""
    p, q = _log_softmax(wanted), _log_softmax(found)
    share = np.exp(p)
    mean = float((share * (p - q)).sum(dtype=np.float64)) / len(p)
    return mean, np.asarray((np.exp(q) - share) / np.float32(len(p)), np.float32)


@dataclass(eq=False)
class _Answers:
    """The float model's logits of each window: what the head reads is kept, f32, and the head alone run again."""

    network: Network
    floats: Mapping[str, F32]
    ids: Ids
    held: dict[int, F32] = field(default_factory=dict)

    def __getitem__(self, window: int) -> F32:
        head = self.network.result
        if not isinstance(head, Linear) or head.bias is not None:
            return self.network.run(self.ids[window], self.floats).result
        if window not in self.held:
            self.held[window] = self.network.run(self.ids[window], self.floats).values[head.x]
        assert isinstance(head.weight, Constant)
        return np.asarray(self.held[window] @ self.floats[head.weight.name].T, np.float32)


def _gradients(
    network: Network,
    floats: Mapping[str, F32],
    tuned: Mapping[str, Tuned],
    factors: Mapping[str, F32],
    windows: Iterable[tuple[Ids, F32]],
) -> dict[str, F32]:
    """Of the factors, from the sum of the divergence over windows of ids, with the logits wanted."""
    now = {**floats, **{name: each.scaled(factors[name]) for name, each in tuned.items()}}
    found: dict[str, F32] = {}
    for ids, wanted in windows:
        run = network.run(ids, now)
        run.gradients(loss(wanted, run.result)[1], found)
    return {name: each.gradient(found[name]) for name, each in tuned.items()}


def _tuned(source: QuantisedSource | Source | None, floats: F32) -> Tuned:
    if not isinstance(source, QuantisedSource):
        return Tuned(floats, 1)
    rows = source.quantised(0, source.shape[0])
    grouped = rows.table is not None and rows.group
    return Tuned(rows.dequantise(), rows.group if grouped else floats.shape[1])


def _applied(
    source: QuantisedSource | Source | None, tuned: Tuned, factors: F32
) -> QuantisedSource | Source:
    if isinstance(source, QuantisedSource):
        return Rescaled(source, factors)
    return ArraySource(tuned.scaled(factors))


def _log_softmax(logits: F32) -> F32:
    rows = logits - logits.max(axis=1, keepdims=True)
    rows -= np.log(np.exp(rows).sum(axis=1, keepdims=True))
    return np.asarray(rows, np.float32)


def _read(constant: Constant) -> F32:
    assert isinstance(constant.value, Source)
    return read(constant.value)
