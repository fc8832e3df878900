"""Gates: the smallest allocation of bits whose compiled archive, run by the real runtime, keeps within stated limits.

Trials: bits are allocated for a predicted loss, the archive is compiled and measured on windows of the calibration text
that no statistic has seen, beside the float archive of the same source; what is measured moves the prediction that is
allowed, between one that was too much and one that was not. A bound counts as met when the measured value is
`MARGIN` of its standard errors inside.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from math import expm1, inf, log1p

import numpy as np

from hearth.compiler.judge.allocate import Allocation, Front
from hearth.runtime.evaluation import Window, compare, window_nats
from hearth.runtime.evaluation.perplexity import standard_error
from hearth.runtime.model import Model
from hearth.runtime.progress import Progress, step
from hearth.schemas.recipe import Gate

MARGIN = 2.0
TRIALS = 7
CLOSE = 1.08  # allowed losses nearer than this are one
AIM = 0.97  # of the limit: where to look next
FIRST_LOSS = 0.01  # where no limit says more


@dataclass(frozen=True)
class Measured:
    """An archive on the held-out windows, beside the float model; what was not asked for is None.

    `increase` of the perplexity as a fraction, `kld` in nats, `top1` a share; errors are standard errors over windows.
    """

    bits: float
    increase: float
    increase_error: float
    kld: float | None = None
    kld_error: float = 0.0
    top1: float | None = None
    top1_error: float = 0.0

    def excess(self, gate: Gate) -> float:
        """How much of the tightest limit is used up, with the margin: 1 or less meets the gate."""
        used = [0.0]
        if gate.max_bits is not None and self.bits > gate.max_bits:
            used.append(inf)
        if gate.max_ppl_increase is not None:
            worst = self.increase + MARGIN * self.increase_error
            used.append(_share(log1p(worst), log1p(gate.max_ppl_increase)))
        if gate.max_kld is not None and self.kld is not None:
            used.append(_share(self.kld + MARGIN * self.kld_error, gate.max_kld))
        if gate.min_top1 is not None and self.top1 is not None:
            worst = 1 - self.top1 + MARGIN * self.top1_error
            # the share of other first choices grows with the noise, losses with its square
            used.append(_share(worst, 1 - gate.min_top1) ** 2)
        return max(used)


def _share(value: float, limit: float) -> float:
    if limit > 0:
        return max(value / limit, 0.0)
    return 0.0 if value <= 0 else inf


@dataclass
class Judge:
    """Measures archives on held-out windows beside the float model, which is run once where that is enough."""

    floats: Model
    windows: list[Window]
    gate: Gate
    progress: Progress
    _nats: list[float] = field(default_factory=list)

    def measure(self, model: Model, bits: float) -> Measured:
        count = sum(len(window.ids) for window in self.windows)
        if self.gate.max_kld is not None or self.gate.min_top1 is not None:
            with step(self.progress, "measure", count) as advance:
                found = compare(model, self.floats, self.windows, advance)
            each = (found.kld, found.kld_error, found.top1, found.top1_error)
            return Measured(bits, found.increase, found.increase_error, *each)
        if not self._nats:
            self._nats = self._means(self.floats, "measure the source")
        differences = np.array(self._means(model, "measure")) - np.array(self._nats)
        mean, error = float(differences.mean()), standard_error(differences)
        return Measured(bits, expm1(mean), (1 + expm1(mean)) * error)

    def _means(self, model: Model, title: str) -> list[float]:
        with step(self.progress, title, sum(len(each.ids) for each in self.windows)) as advance:
            return [float(part.mean()) for part in window_nats(model, self.windows, advance)]


@dataclass(frozen=True)
class Trial:
    """An allocation that was compiled, and what came of it."""

    allowed: float  # predicted loss
    allocation: Allocation
    measured: Measured
    met: bool


@dataclass(frozen=True)
class Decision:
    """What was asked for, what was tried, and what was taken (None: nothing meets the gate)."""

    gate: Gate
    trials: tuple[Trial, ...]
    taken: Trial | None


Run = Callable[[Allocation], Measured]


def decide(front: Front, budget: float, gate: Gate, run: Run) -> Decision:
    """Tries allocations until the least one that meets the gate is known closely enough; `budget` in bytes.

    `run` compiles an allocation and measures it. Without a limit of the loss the best within the budget is taken.
    """
    search = _Search(front, budget, gate, run)
    if gate.max_ppl_increase is None and gate.max_kld is None and gate.min_top1 is None:
        search.best()
    else:
        search.smallest()
    return Decision(gate, tuple(search.trials), search.taken)


@dataclass(eq=False)
class _Search:
    """`low` the largest predicted loss that met the gate, `high` the least one that did not."""

    front: Front
    budget: float
    gate: Gate
    run: Run
    trials: list[Trial] = field(default_factory=list)
    taken: Trial | None = None
    low: float = 0.0
    high: float = inf

    def best(self) -> None:
        """The least loss within the budget; once more with less where the layouts took more than was counted."""
        for _ in range(2):
            allocation = self.front.best(self.budget)
            if allocation is None:
                return
            trial = self._try(allocation.loss, allocation)
            if trial.met or self.gate.max_bits is None:
                return
            self.budget = allocation.nbytes * self.gate.max_bits / trial.measured.bits

    def smallest(self) -> None:
        """A search over the predicted loss: along the measured one at first, then between the two sides."""
        allowed = self._first()
        while len(self.trials) < TRIALS and self.high > self.low * CLOSE:
            allocation = self.front.smallest(allowed, self.budget)
            if (
                allocation is None
            ):  # below what there is, or beyond the budget: the best there is decides
                self._last_resort()
                return
            if any(trial.allocation == allocation for trial in self.trials):
                return
            trial = self._try(allowed, allocation)
            if trial.met:
                self.low = max(self.low, allowed)
            else:
                self.high = min(self.high, allowed)
            allowed = self._next()
        if self.taken is None:
            self._last_resort()

    def _first(self) -> float:
        gate = self.gate
        limits = [each for each in (gate.max_ppl_increase, gate.max_kld) if each is not None]
        return max(min((log1p(each) for each in limits), default=FIRST_LOSS), 1e-12)

    def _next(self) -> float:
        """Where the loss that was measured would use up nearly all of the limit, kept inside of what is known."""
        guess = self._guess()
        if self.low == 0:
            return min(guess, 0.9 * self.high)
        if self.high == inf:
            return max(guess, 1.1 * self.low)
        ratio = self.high / self.low
        within: float = min(max(guess, self.low * ratio**0.2), self.low * ratio**0.8)
        return within

    def _guess(self) -> float:
        """By the line through the last two trials, or through the last one and nothing."""
        last = self.trials[-1]
        loss, used = last.allocation.loss, last.measured.excess(self.gate)
        if used in (0.0, inf):
            return last.allowed * (4 if used == 0 else 0.25)
        factor = AIM / used
        if len(self.trials) > 1:
            before = self.trials[-2]
            other, known = before.allocation.loss, before.measured.excess(self.gate)
            if (used - known) * (loss - other) > 0 and known < inf:
                factor = 1 + (AIM - used) * (loss - other) / ((used - known) * loss)
        return loss * min(max(factor, 0.02), 20)

    def _last_resort(self) -> None:
        if self.taken is not None:
            return
        allocation = self.front.best(self.budget)
        if allocation is not None and all(trial.allocation != allocation for trial in self.trials):
            self._try(allocation.loss, allocation)

    def _try(self, allowed: float, allocation: Allocation) -> Trial:
        measured = self.run(allocation)
        trial = Trial(allowed, allocation, measured, measured.excess(self.gate) <= 1)
        self.trials.append(trial)
        smaller = self.taken is None or allocation.nbytes < self.taken.allocation.nbytes
        if trial.met and smaller:
            self.taken = trial
        return trial
