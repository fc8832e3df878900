"""`hearth bench --profile`: time, bytes, operations and waiting of each kind of command, in prefill and in decode."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from hearth.runtime import native
from hearth.runtime.commands.bench_machine import limits_found, machine
from hearth.runtime.commands.bench_plan import Bench, ids_of, lengths
from hearth.runtime.commands.bench_subjects import DecoderBench, EncoderBench, Found, Subject
from hearth.runtime.commands.bench_text import Columns, columned, percent
from hearth.runtime.commands.terminal import duration, size
from hearth.runtime.costs import Place, prefill_places
from hearth.runtime.machine.limits import Limits
from hearth.runtime.profiling import Line, Profile
from hearth.runtime.progress import step
from hearth.runtime.session import Session

Timed = tuple[Profile, ...]


def profile_bench(bench: Bench, threads: Sequence[int | None], *, by_command: bool) -> Found:
    """Of each prompt length and number of threads the phases of a run, each with a table of lines."""
    profiles: list[Found] = []
    prompts: tuple[int, ...] = ()
    for count in threads:
        one = bench.with_threads(count)
        prompts, _ = lengths(bench.plan, one.load())
        with step(bench.progress, "profile", bench.plan.runs * len(prompts)) as advance:
            for length in prompts:
                profiles.append(_profile(one, length, by_command, advance))
    return {
        "file": bench.file.name,
        "runs": bench.plan.runs,
        "seed": bench.plan.seed,
        "machine": machine(bench.energy),
        "profiles": profiles,
    }


def _profile(bench: Bench, length: int, by_command: bool, advance: Callable[[int], None]) -> Found:
    """One run that does not count, then the others, the limits between them."""
    measured = bench.load()
    ids = ids_of(bench, measured, length)
    measured.one_run(ids, length, bench.watch)
    measured.model.engine.start_profile()
    bracket = bench.bracket(measured, measured.model.threads)
    bench.take(bracket)
    phases = _phases(measured)
    for _ in range(bench.plan.runs):
        _run(measured, phases, ids, length)
        bench.take(bracket)
        advance(1)
    limits = bracket.limits() if bracket else None
    return {
        "threads": measured.model.threads,
        "isa": measured.model.isa,
        "prompt_tokens": length,
        "limits": limits_found(measured.model.threads, limits) if limits else None,
        "phases": [_phase(phase, measured.model.threads, limits, by_command) for phase in phases],
    }


def _phases(measured: Subject) -> Timed:
    """One profile for each entry that runs."""
    match measured:
        case DecoderBench():
            names = ["prefill", "decode"]
        case EncoderBench():
            names = [measured.entry]
    model = measured.model
    entries = model.archive.program.entries
    return tuple(
        Profile(entries[name], model.entry_numbers[name], model.engine, name) for name in names
    )


def _run(measured: Subject, phases: Timed, ids: Sequence[int], length: int) -> None:
    match measured:
        case DecoderBench():
            prefill, decode = phases
            session = measured.model.session()
            _read(session, ids[:length], prefill)
            for token in ids[length:]:
                session.decode(token)
                decode.add(Place(1, 1, session.position - 1))
        case EncoderBench():
            text = measured.model.encode(ids[:length])
            measured.run(text)
            phases[0].add(Place(len(text.ids)))


def _read(session: Session[native.State], ids: Sequence[int], profile: Profile) -> None:
    """Read a prompt; each chunk is counted before the next one overwrites its stamps."""
    *chunks, last = prefill_places(len(ids), session.executor.chunk)
    before = iter((None, *chunks))  # the first chunk has none before it

    def count() -> None:
        if (place := next(before)) is not None:
            profile.add(place, ends=False)

    session.prefill(ids, between=count)
    profile.add(last)


def _phase(profile: Profile, threads: int, limits: Limits | None, by_command: bool) -> Found:
    """Times and amounts of one run of the entry."""
    lines = profile.lines if by_command else profile.grouped(lambda line: line.name)
    total = profile.seconds
    return {
        "entry": profile.name,
        "runs": profile.runs,
        "seconds": total / profile.runs,
        "lines": [_line(line, profile, total, threads, limits) for line in lines if line.calls],
    }


def _line(line: Line, profile: Profile, total: float, threads: int, limits: Limits | None) -> Found:
    runs, cost, seconds = profile.runs, line.cost, max(line.seconds, 1e-12)
    nbytes = cost.memory_nbytes + cost.activation_nbytes
    operations = cost.int8_operations + cost.f32_operations
    return {
        "op": line.name,
        "kernel": line.kernel,
        "calls": line.calls / runs,
        "seconds": line.seconds / runs,
        "share": line.seconds / total,
        "memory_nbytes": cost.memory_nbytes / runs,
        "nbytes": nbytes / runs,
        "bytes_per_s": nbytes / seconds,
        "int8_operations": cost.int8_operations / runs,
        "f32_operations": cost.f32_operations / runs,
        "operations_per_s": operations / seconds,
        "of_limit": of_limit(line, limits),
        "waiting": line.waited / (threads * seconds),
    }


def of_limit(line: Line, limits: Limits | None) -> float | None:
    """The shortest time that the limits allow, as a part of the time that was taken: memory or arithmetic, whichever is
    longer, as though the two overlapped."""
    if limits is None or not line.seconds:
        return None
    cost = line.cost
    reading = cost.memory_nbytes / limits.read.median
    computing = cost.int8_operations / limits.int8.median
    computing += cost.f32_operations / limits.f32.median
    return max(reading, computing) / line.seconds


def _count(value: float) -> str:
    return f"{value:.0f}"


COLUMNS: Columns = {
    "op": ("op", str),
    "calls": ("calls", _count),
    "seconds": ("time", lambda value: f"{value * 1e3:.3f} ms"),
    "share": ("share", lambda value: f"{100 * value:.1f} %"),
    "nbytes": ("bytes", size),
    "bytes_per_s": ("", lambda value: f"{value / 1e9:.1f} GB/s"),
    "operations": ("operations", lambda value: f"{value / 1e9:.3f} GOP"),
    "operations_per_s": ("", lambda value: f"{value / 1e9:.1f} GOPS"),
    "of_limit": ("of limit", percent),
    "waiting": ("waiting", percent),
}


def profile_text(found: Found) -> str:
    """A table for each phase of each length."""
    lines = [f"{found['file']}, {found['machine']['processor']}, means of {found['runs']} runs"]
    for profile in found["profiles"]:
        for phase in profile["phases"]:
            lines += ["", _title(profile, phase), columned(_rows(phase), COLUMNS)]
    return "\n".join(lines) + "\n"


def _title(profile: Found, phase: Found) -> str:
    return (
        f"{phase['entry']} after a prompt of {profile['prompt_tokens']} tokens,"
        if phase["entry"] == "decode"
        else f"{phase['entry']} of {profile['prompt_tokens']} tokens,"
    ) + (
        f" {profile['threads']} threads, {profile['isa']}: {phase['runs']} runs of"
        f" {duration(phase['seconds'])}"
    )


def _rows(phase: Found) -> list[dict[str, Any]]:
    return [
        line | {"operations": line["int8_operations"] + line["f32_operations"]}
        for line in phase["lines"]
    ]
