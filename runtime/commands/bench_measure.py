"""The order of a benchmark: load, then a limit, a run, a limit, a run, ...; all figures as plain data."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from hearth.runtime.commands.bench_batch import batch_rates
from hearth.runtime.commands.bench_subjects import (
    Clock,
    DecoderBench,
    Found,
    Span,
    Subject,
    Timed,
    Watch,
    subject,
)
from hearth.runtime.cores import available_cores
from hearth.runtime.energy import EnergyMeter, energy_meter
from hearth.runtime.limits import (
    Bracket,
    Limits,
    MachineMeter,
    Meter,
    Sample,
    buffer_nbytes,
    last_cache,
    limits_of,
)
from hearth.runtime.loader import load_any
from hearth.runtime.options import Options
from hearth.runtime.progress import Progress, step
from hearth.runtime.residence import mapped_memory
from hearth.runtime.session import check_room
from hearth.runtime.spread import spread_of
from hearth.runtime.whereabouts import whereabouts
from hearth.schemas.errors import UsageError

USUAL = (16, 96, 512)
TABLES = ("limits", "results", "contexts", "batches")
BATCH_PROMPT, BATCH_STEPS = 96, 8
DECODE_WEIGHT = 8  # a token decoded takes about as long as so many of a prompt
STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
CPUINFO = Path("/proc/cpuinfo")


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


MakeMeter = Callable[[Subject, int], Meter]


@dataclass
class Memory:
    """Resident memory of the model's own work: what limits take in between is kept out of the highest value."""

    status: Path = STATUS
    clear: Path = CLEAR
    peak: int = 0
    known: bool = True

    def now(self) -> dict[str, int] | None:
        """Bytes now and at most; None where the system does not say."""
        found = memory(self.status)
        if found is None or not self.known:
            return None
        self.peak = max(self.peak, found["peak_rss_nbytes"])
        return {"rss_nbytes": found["rss_nbytes"], "peak_rss_nbytes": self.peak}

    def aside(self, work: Callable[[], None]) -> None:
        """Do something whose memory does not count."""
        self.now()
        work()
        try:
            self.clear.write_text("5")  # the highest value begins anew
        except OSError:
            self.known = False


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


def measure(bench: Bench, threads: Sequence[int | None]) -> Found:
    """All figures, for each number of threads in turn; times in seconds, rates per second."""
    plan = bench.plan
    facts, prompts, contexts = _facts(bench)
    found = facts | {
        "cold": cold_start(bench, prompts[0]) if plan.cold else None,
        "load_s": spread_of(bench.loads()).as_dict(),
        "rss_after_load_nbytes": _after_load(bench),
    }
    tables: dict[str, list[Found]] = {name: [] for name in TABLES}
    with step(bench.progress, "bench", _units(plan, prompts, contexts) * len(threads)) as advance:
        for count in threads:
            for name, rows in _one_count(
                bench.with_threads(count), prompts, contexts, advance
            ).items():
                tables[name] += rows
    if tables["limits"] and all(row["threads"] > 1 for row in tables["limits"]):
        tables["limits"].insert(0, _alone(bench))
    at_end = bench.memory.now()
    return found | tables | {"peak_rss_nbytes": at_end and at_end["peak_rss_nbytes"]}


def _facts(bench: Bench) -> tuple[Found, tuple[int, ...], tuple[int, ...]]:
    """What is measured, on what; and the lengths, checked before anything takes time."""
    measured, first = bench.timed_load()
    facts = {
        "file": bench.file.name,
        "nbytes": bench.file.stat().st_size,
        "kind": str(measured.model.manifest.kind),
        "isa": measured.model.isa,
        "runs": bench.plan.runs,
        "seed": bench.plan.seed,
        "machine": machine(bench.energy),
        "first_load_s": first,
    }
    return facts, *lengths(bench.plan, measured)


def _after_load(bench: Bench) -> int | None:
    model = bench.load()
    found = bench.memory.now()
    del model
    return None if found is None else found["rss_nbytes"]


def _units(plan: Plan, prompts: Sequence[int], contexts: Sequence[int]) -> int:
    """Work of one number of threads, in tokens of a prompt."""
    decode = DECODE_WEIGHT * plan.decode
    read = (plan.runs + 1) * (sum(prompts) + decode * len(prompts))
    return read + max(contexts, default=0) + plan.runs * decode * len(contexts)


def _one_count(
    bench: Bench, prompts: Sequence[int], contexts: Sequence[int], advance: Callable[[int], None]
) -> dict[str, list[Found]]:
    """Everything with one number of threads."""
    samples: list[Sample] = []
    named = {"threads": bench.load().model.threads}
    results = [_prompt(bench, samples, length, advance) for length in prompts]
    depths = _depths(bench, samples, contexts, advance) if contexts else []
    limits = [limits_found(named["threads"], limits_of(samples))] if samples else []
    batches = _batches(bench)
    return {
        "limits": limits,
        "results": [named | result for result in results],
        "contexts": [named | depth for depth in depths],
        "batches": [named | batch for batch in batches],
    }


def _alone(bench: Bench) -> Found:
    """What one thread of the machine can do."""
    bracket = bench.bracket(bench.load(), 1)
    assert bracket is not None
    bench.take(bracket)
    return limits_found(1, bracket.limits())


def _prompt(
    bench: Bench, samples: list[Sample], length: int, advance: Callable[[int], None]
) -> Found:
    """One prompt length, on a model that is loaded anew: its first run is told apart."""
    measured = bench.load()
    ids = ids_of(bench, measured, length)
    units = length + DECODE_WEIGHT * measured.after

    def run() -> tuple[Span, ...]:
        spans = measured.one_run(ids, length, bench.watch)
        advance(units)
        return spans

    first = run()[0]
    runs = bench.repeat(measured, samples, run)
    resident, mapped = bench.memory.now(), mapped_memory(measured.model.archive.mapping)
    found = measured.summary(length, first, runs)
    return found | {
        "rss_nbytes": resident and resident["rss_nbytes"],
        "huge_nbytes": mapped and mapped.huge_nbytes,
        "affinity": whereabouts(measured.model)["affinity"],
    }


def _depths(
    bench: Bench, samples: list[Sample], contexts: Sequence[int], advance: Callable[[int], None]
) -> list[Found]:
    """Decode rates after so many tokens: one session that reads on from length to length."""
    measured = bench.load()
    assert isinstance(measured, DecoderBench)  # lengths()
    session = measured.model.session()
    ids = ids_of(bench, measured, max(contexts))
    found = []
    for length in sorted(contexts):
        session.prefill(ids[session.position : length])
        advance(length - session.position)

        def run(length: int = length) -> tuple[Span, ...]:
            span = measured.decode_run(session, ids, bench.watch)
            session.rewind(length)
            advance(DECODE_WEIGHT * measured.after)
            return (span,)

        runs = bench.repeat(measured, samples, run)
        rates = measured.decoded(length, [(each.spans[0], each.limits) for each in runs])
        found.append({"context_tokens": length} | rates)
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


def cold_start(bench: Bench, length: int) -> Found:
    """Load and first run once the file's pages have left the page cache, which other processes notice too."""
    evict(bench.file)
    measured, loaded = bench.timed_load()
    ids = ids_of(bench, measured, length)
    first = measured.one_run(ids, length, bench.watch)[0]
    return {"load_s": loaded, "prompt_tokens": length, "first_s": first.seconds}


def _batches(bench: Bench) -> list[Found]:
    """Sessions that decode together."""
    if not bench.plan.batches:
        return []
    measured = bench.load()
    assert isinstance(measured, DecoderBench)  # lengths()
    length = min(BATCH_PROMPT, measured.longest)
    return batch_rates(
        measured.model, bench.plan.batches, length, min(measured.decode, BATCH_STEPS),
        max(bench.plan.runs, 1), bench.plan.seed, bench.clock,
    )  # fmt: skip


def evict(file: Path) -> None:
    """Ask the system to drop the file's pages; those that some process has mapped stay."""
    descriptor = os.open(file, os.O_RDONLY)
    try:
        if hasattr(os, "posix_fadvise"):
            os.fdatasync(descriptor)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)


def machine_meter(measured: Subject, threads: int) -> MachineMeter:
    """Of this machine, with the instructions that the model uses, over the model's own weights."""
    model = measured.model
    weights = np.frombuffer(model.archive.weights(), np.uint8)
    return MachineMeter(threads, model.isa, weights, buffer_nbytes())


def limits_found(threads: int, limits: Limits) -> Found:
    """As JSON has them."""
    return {
        "threads": threads,
        "read_bytes_per_s": limits.read.as_dict(),
        "mapping_bytes_per_s": limits.mapping.as_dict(),
        "int8_operations_per_s": limits.int8.as_dict(),
        "f32_operations_per_s": limits.f32.as_dict(),
    }


def machine(energy: EnergyMeter) -> Found:
    """What a reader of the figures asks first."""
    return {
        "processor": processor(),
        "cores": available_cores(),
        "last_cache_nbytes": last_cache(),
        "energy_counters": len(energy.counters),
    }


def processor(path: Path = CPUINFO) -> str:
    """Its name as the system has it."""
    try:
        lines = path.read_text().splitlines()
    except OSError:
        lines = []
    names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def memory(status: Path = STATUS) -> dict[str, int] | None:
    """Resident memory now and at its highest, in bytes; None where the system does not say."""
    try:
        lines = status.read_text().splitlines()
    except OSError:
        return None
    fields = dict(line.split(":", 1) for line in lines if ":" in line)
    names = {"rss_nbytes": "VmRSS", "peak_rss_nbytes": "VmHWM"}
    return {name: int(fields[field].split()[0]) * 1024 for name, field in names.items()}
