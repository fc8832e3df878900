"""A benchmark in progress: what is to be measured, models loaded for it, runs between looks at the limits."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from hearth.runtime.commands.bench_machine import Memory, machine_meter
from hearth.runtime.commands.bench_subjects import (
    Clock,
    DecoderBench,
    Span,
    Subject,
    Timed,
    Watch,
    subject,
)
from hearth.runtime.loader import load_any
from hearth.runtime.machine.energy import EnergyMeter, energy_meter
from hearth.runtime.machine.limits import Bracket, Meter, Sample
from hearth.runtime.options import Options
from hearth.runtime.progress import Progress
from hearth.runtime.session import check_room
from hearth.schemas.errors import UsageError

USUAL = (16, 96, 512)

MakeMeter = Callable[[Subject, int], Meter]


@dataclass(frozen=True)
class Plan:
    """What to measure; without prompts the usual lengths that fit."""

    prompts: tuple[int, ...] = ()
    contexts: tuple[int, ...] = ()
    decode: int = 32
    runs: int = 3
    seed: int = 0
    batches: tuple[int, ...] = ()
    limits: bool = True
    cold: bool = False


@dataclass(frozen=True)
class Bench:
    """One benchmark in progress."""

    file: Path
    options: Options
    plan: Plan
    progress: Progress
    clock: Clock = time.perf_counter
    energy: EnergyMeter = field(default_factory=energy_meter)
    make_meter: MakeMeter | None = None
    memory: Memory = field(default_factory=Memory)

    @property
    def watch(self) -> Watch:
        return Watch(self.clock, self.energy)

    def with_threads(self, threads: int | None) -> Bench:
        """The same with another number of threads."""
        return replace(self, options=replace(self.options, threads=threads))

    def load(self) -> Subject:
        """The model, fresh."""
        here = self.options
        model = load_any(self.file, here.threads, isa=here.isa, **here.placing.wishes())
        return subject(model, self.plan.decode)

    def timed_load(self) -> tuple[Subject, float]:
        """The model, fresh, and the seconds it took; to let it go would take time too."""
        models: list[Subject] = []
        span = self.watch.time(lambda: models.append(self.load()))
        return models[0], span.seconds

    def loads(self) -> list[float]:
        """Seconds of several loads."""
        return [self.timed_load()[1] for _ in range(self.plan.runs)]

    def bracket(self, measured: Subject, threads: int) -> Bracket | None:
        """Where the limits of so many threads go."""
        if not self.plan.limits:
            return None
        return Bracket((self.make_meter or machine_meter)(measured, threads))

    def take(self, bracket: Bracket | None) -> None:
        if bracket is not None:
            self.memory.aside(bracket.take)

    def repeat(
        self, measured: Subject, samples: list[Sample], run: Callable[[], tuple[Span, ...]]
    ) -> list[Timed]:
        """The runs, with a look at the limits before, between and after them, which goes to `samples` too.

        The limits are those over the model's own mapping: of two mappings of a file both would count as resident.
        """
        bracket = self.bracket(measured, measured.model.threads)
        self.take(bracket)
        found = []
        for number in range(self.plan.runs):
            spans = run()
            self.take(bracket)
            found.append(Timed(spans, bracket.beside(number) if bracket else None))
        samples += bracket.samples if bracket else []
        return found


def ids_of(bench: Bench, measured: Subject, length: int) -> list[int]:
    """A prompt of that length and what follows it."""
    draw = np.random.default_rng(bench.plan.seed)
    ids: list[int] = draw.integers(0, measured.vocab, length + measured.after).tolist()
    return ids


def lengths(plan: Plan, measured: Subject) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Prompts and contexts, all of which fit."""
    if (plan.contexts or plan.batches) and not isinstance(measured, DecoderBench):
        raise UsageError(
            "arguments.kind",
            f"--contexts or --batch with an archive that is an {measured.model.manifest.kind}",
            expected="a decoder: nothing else decodes",
        )
    prompts = plan.prompts or tuple(n for n in USUAL if n <= measured.longest) or (1,)
    longest = max((*prompts, *plan.contexts))
    check_room(0, longest + measured.after, measured.longest + measured.after)
    return prompts, tuple(sorted(plan.contexts))
