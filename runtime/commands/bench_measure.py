"""The order of a benchmark: load, then a limit, a run, a limit, a run, ...; all figures as plain data."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from hearth.runtime.commands.bench_batch import Steps, batch_rates
from hearth.runtime.commands.bench_machine import evict, limits_found, machine
from hearth.runtime.commands.bench_plan import Bench, Plan, ids_of, lengths
from hearth.runtime.commands.bench_subjects import DecoderBench, Found, Span
from hearth.runtime.machine.limits import Sample, limits_of
from hearth.runtime.machine.residence import mapped_memory
from hearth.runtime.machine.spread import spread_of
from hearth.runtime.machine.whereabouts import whereabouts
from hearth.runtime.progress import step

TABLES = ("limits", "results", "contexts", "batches")
BATCH_PROMPT, BATCH_STEPS = 96, 8
DECODE_WEIGHT = 8  # a token decoded takes about as long as so many of a prompt


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
    steps = Steps(
        prompt=min(BATCH_PROMPT, measured.longest),
        count=min(measured.decode, BATCH_STEPS),
        runs=max(bench.plan.runs, 1),
        seed=bench.plan.seed,
        clock=bench.clock,
    )
    return batch_rates(measured.model, bench.plan.batches, steps)
