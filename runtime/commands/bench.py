"""`hearth bench`: rates of a model beside the machine's own limits, both measured in turn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hearth.runtime.commands.arguments import parse_ids
from hearth.runtime.commands.common_options import IsaOption, JsonOption, PlacingOptions
from hearth.runtime.commands.groups import spread
from hearth.runtime.commands.terminal import emit, emit_json
from hearth.runtime.options import read_options
from hearth.runtime.progress import choose
from hearth.schemas.errors import InputError, UsageError

if TYPE_CHECKING:
    from hearth.runtime.commands.bench_plan import Plan


@dataclass(frozen=True)
class PlanOptions:
    """What to measure."""

    prompts: Annotated[
        str | None, typer.Option(help="prompt lengths in tokens; 16,96,512 where they fit")
    ] = None
    contexts: Annotated[
        str | None, typer.Option(help="also the decode rate after so many tokens: 128,2048")
    ] = None
    batch: Annotated[
        str | None, typer.Option(help="also sessions that decode together, so many: 1,2,4")
    ] = None
    decode: Annotated[int, typer.Option(help="tokens to decode after each prompt")] = 32
    runs: Annotated[int, typer.Option(help="runs of each length; the median counts")] = 3
    seed: Annotated[int, typer.Option(help="draws the prompts' token ids")] = 0
    limits: Annotated[
        bool, typer.Option("--limits/--no-limits", help="measure the machine between the runs")
    ] = True
    cold: Annotated[
        bool,
        typer.Option("--cold", help="also load and first prompt with the file out of the cache"),
    ] = False

    def plan(self) -> Plan:
        """The checked form; UsageError `arguments.bench`."""
        from hearth.runtime.commands.bench_plan import Plan

        _check("--decode and --runs", [self.decode, self.runs], 1)
        _check("--seed", [self.seed], 0)
        return Plan(
            prompts=_numbers("--prompts", self.prompts),
            contexts=_numbers("--contexts", self.contexts),
            batches=_numbers("--batch", self.batch),
            decode=self.decode,
            runs=self.runs,
            seed=self.seed,
            limits=self.limits,
            cold=self.cold,
        )


@spread
def bench_command(
    file: Annotated[Path, typer.Argument(help="the .har file")],
    *,
    wanted: PlanOptions,
    profile: Annotated[
        bool, typer.Option("--profile", help="a table of the time of each kind of op instead")
    ] = False,
    commands: Annotated[
        bool, typer.Option("--profile-commands", help="the same with a row for every command")
    ] = False,
    threads: Annotated[
        str | None,
        typer.Option(help="one number or several in turn (1,2); HEARTH_THREADS, else the cores"),
    ] = None,
    isa: IsaOption = None,
    placing: PlacingOptions,
    as_json: JsonOption = False,
) -> None:
    """Measure a decoder's TTFT, prefill and decode rates, or an encoder's vectors; load time, memory, energy.

    Rates are given as parts of what the machine can do: read bandwidth, products of integers and floats.
    """
    from hearth.runtime.binding import checked_threads
    from hearth.runtime.commands.bench_measure import measure
    from hearth.runtime.commands.bench_plan import Bench
    from hearth.runtime.commands.bench_profile import profile_bench, profile_text
    from hearth.runtime.commands.bench_text import as_text

    plan = wanted.plan()
    counts: list[int | None] = [checked_threads(n) for n in _numbers("--threads", threads, 0)]
    options = read_options(None, isa, placing=placing)
    counts = counts or [options.threads]
    bench = Bench(file, replace(options, threads=counts[0]), plan, choose(quiet=as_json))
    if profile or commands:
        found = profile_bench(bench, counts, by_command=commands)
        text = profile_text
    else:
        found, text = measure(bench, counts), as_text
    if as_json:
        emit_json(found)
    else:
        emit(text(found))


def _numbers(name: str, text: str | None, least: int = 1) -> tuple[int, ...]:
    """'16, 96' -> (16, 96); nothing given is no numbers."""
    if text is None:
        return ()
    try:
        numbers = parse_ids(text)
    except InputError:
        raise UsageError(
            "arguments.bench", f"{name} {text!r:.80}", expected="numbers, such as 1,2"
        ) from None
    _check(name, numbers, least)
    return tuple(numbers)


def _check(name: str, values: Sequence[int], least: int) -> None:
    if not values or min(values) < least:
        found = ", ".join(str(value) for value in values) or "nothing"
        expected = f"numbers of at least {least}"
        raise UsageError("arguments.bench", f"{name} {found}", expected=expected)
