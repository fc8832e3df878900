"""`hearth bench`: load time, time to the first token, prefill and decode rates, memory; medians of several runs."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import numpy as np
import typer

from hearth.runtime.commands.arguments import parse_ids
from hearth.runtime.commands.terminal import duration, emit, emit_json, rate, size, table
from hearth.runtime.options import Options, read_options
from hearth.runtime.progress import Progress, choose, step
from hearth.schemas.errors import InputError, UsageError

Clock = Callable[[], float]
USUAL = (16, 96, 512)
COLUMNS: Mapping[str, tuple[str, Callable[[Any], str]]] = {
    "prompt_tokens": ("prompt", str),
    "ttft_s": ("TTFT", duration),
    "prefill_tokens_per_s": ("prefill", rate),
    "decode_tokens_per_s": ("decode", rate),
    "embed_s": ("vector", duration),
    "texts_per_s": ("texts", lambda value: f"{value:.1f} texts/s"),
    "tokens_per_s": ("tokens", rate),
}


def bench_command(
    file: Annotated[Path, typer.Argument(help="the .har file")],
    prompts: Annotated[
        str | None,
        typer.Option("--prompts", help="prompt lengths in tokens; 16,96,512 where they fit"),
    ] = None,
    decode: Annotated[int, typer.Option(help="tokens to decode after each prompt")] = 32,
    runs: Annotated[int, typer.Option(help="runs of each length; the median counts")] = 3,
    seed: Annotated[int, typer.Option(help="draws the prompts' token ids")] = 0,
    threads: Annotated[
        int | None, typer.Option(help="HEARTH_THREADS, else the cores there are")
    ] = None,
    isa: Annotated[
        str | None, typer.Option(help="highest instruction set to use; HEARTH_ISA, else the best")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON object")] = False,
) -> None:
    """Measure load time, TTFT, prefill and decode rates, and memory; of an encoder the rate of its vectors."""
    lengths = [] if prompts is None else _lengths(prompts)
    _check("--decode and --runs", [decode, runs], 1)
    _check("--seed", [seed], 0)
    options = read_options(threads, isa)
    found = measure(file, options, lengths, decode, runs, seed, choose(quiet=as_json))
    if as_json:
        emit_json(found)
    else:
        emit(as_text(found))


def _lengths(prompts: str) -> list[int]:
    """'16, 96' -> [16, 96]"""
    try:
        lengths = parse_ids(prompts)
    except InputError:
        raise UsageError(
            "arguments.bench", f"--prompts {prompts!r:.80}", expected="numbers, such as 16,96"
        ) from None
    _check("--prompts", lengths, 1)
    return lengths


def _check(name: str, values: Sequence[int], least: int) -> None:
    if not values or min(values) < least:
        found = ", ".join(str(value) for value in values) or "nothing"
        expected = f"numbers of at least {least}"
        raise UsageError("arguments.bench", f"{name} {found}", expected=expected)


def measure(
    file: Path,
    options: Options,
    lengths: Sequence[int],
    decode: int,
    runs: int,
    seed: int,
    progress: Progress,
    clock: Clock = time.perf_counter,
) -> dict[str, Any]:
    """All figures as plain data; times in seconds, rates per second. Without lengths: the usual ones that fit."""
    from hearth.runtime.commands.bench_subjects import subject
    from hearth.runtime.loader import load_any
    from hearth.runtime.session import check_room

    loads = []
    for _ in range(runs):
        began = clock()
        model = load_any(file, options.threads, isa=options.isa)
        loads.append(clock() - began)
    measured = subject(model, decode)
    loaded = memory()
    wanted = [*lengths] or [n for n in USUAL if n <= measured.longest] or [1]
    check_room(0, max(wanted) + measured.after, measured.longest + measured.after)
    draw = np.random.default_rng(seed)
    results = []
    with step(progress, "bench", runs * len(wanted)) as advance:
        for length in wanted:
            ids = draw.integers(0, measured.vocab, length + decode).tolist()
            times = []
            for _ in range(runs):
                times.append(measured.one_run(ids, length, clock))
                advance(1)
            results.append(measured.summary(length, times))
    return {
        "file": file.name,
        "isa": measured.model.isa,
        "threads": measured.model.threads,
        "runs": runs,
        "seed": seed,
        "load_s": median(loads),
        "memory_after_load": loaded,
        "memory_at_end": memory(),
        "results": results,
    }


def memory(status: Path = Path("/proc/self/status")) -> dict[str, int] | None:
    """Resident memory now and at its highest, in bytes; None where the system does not say."""
    try:
        lines = status.read_text().splitlines()
    except OSError:
        return None
    fields = dict(line.split(":", 1) for line in lines if ":" in line)
    names = {"rss_nbytes": "VmRSS", "peak_rss_nbytes": "VmHWM"}
    return {name: int(fields[field].split()[0]) * 1024 for name, field in names.items()}


def as_text(found: dict[str, Any]) -> str:
    """The same for people."""
    results = found["results"]
    shown = [column for column in COLUMNS if column in results[0]]
    head = [COLUMNS[column][0] for column in shown]
    rows = [[COLUMNS[column][1](each[column]) for column in shown] for each in results]
    lines = [
        f"{found['file']} on {found['isa']}, {found['threads']} threads, medians of {found['runs']}",
        f"load {duration(found['load_s'])}",
        table([head, *rows]),
    ]
    if found["memory_at_end"]:
        now, end = found["memory_after_load"], found["memory_at_end"]
        lines.append(
            f"resident {size(now['rss_nbytes'])} after load, {size(end['rss_nbytes'])} at the end,"
            f" {size(end['peak_rss_nbytes'])} at most"
        )
    return "\n".join(lines) + "\n"
