"""Runs benchmark programs in turn, round after round, and prints medians and the ratios of the first to the others.

    python tests/bench/pair.py --rounds 5 --lower ttft \\
      --system hearth "hearth bench m.har --prompts 96 --json" \\
          decode=results.0.decode_tokens_per_s.median ttft=results.0.ttft_s.median \\
      --system other "other-bench model 2" decode=tg ttft=ttft_ms*0.001

A system is a name, a command, and where in the JSON lines that the command prints each metric is: a path of keys and
indexes, a factor after it where the units differ. Of several lines in a round the median counts. Each ratio says how
many times better the first system is (`--lower` names the metrics of which less is better); its spread is that of the
rounds' own ratios, whose runs saw the machine in the same minutes. Every second round runs in the opposite order.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

Values = Mapping[str, float]


class PairError(Exception):
    """What the user should know."""


@dataclass(frozen=True)
class Key:
    """Where a metric is in an object, and what to multiply it with."""

    path: tuple[str, ...]
    factor: float = 1.0

    def of(self, found: Any) -> float | None:
        """None where it is not there, or no number."""
        for part in self.path:
            match found:
                case dict() if part in found:
                    found = found[part]
                case list() if part.isdigit() and int(part) < len(found):
                    found = found[int(part)]
                case _:
                    return None
        is_number = isinstance(found, int | float) and not isinstance(found, bool)
        return found * self.factor if is_number else None


@dataclass(frozen=True)
class System:
    """A program to measure."""

    name: str
    command: tuple[str, ...]
    keys: Mapping[str, Key]

    def values(self, output: str) -> Values:
        """Each metric's median over the lines that have it."""
        objects = list(_objects(output))
        found = {}
        for metric, key in self.keys.items():
            numbers = [number for each in objects if (number := key.of(each)) is not None]
            if not numbers:
                raise PairError(
                    f"{self.name}: no number at {'.'.join(key.path)} in {len(objects)} JSON lines"
                )
            found[metric] = median(numbers)
        return found


@dataclass(frozen=True)
class Ratio:
    """How many times better one system is than another: of the medians, and in the rounds."""

    median: float
    least: float
    most: float


Run = Callable[[System], str]


def _objects(output: str) -> Sequence[Any]:
    found = []
    for line in output.splitlines():
        if line.lstrip().startswith("{"):
            try:
                found.append(json.loads(line))
            except ValueError:
                continue
    return found


def run_command(system: System) -> str:
    """What the command prints."""
    try:
        done = subprocess.run(system.command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise PairError(f"{system.name}: cannot run {system.command[0]}: {error}") from None
    if done.returncode:
        raise PairError(f"{system.name}: exit code {done.returncode}\n{done.stderr[-2000:]}")
    return done.stdout


def rounds_of(
    systems: Sequence[System], rounds: int, run: Run, say: Callable[[str], None]
) -> dict[str, list[Values]]:
    """Of each system the values of every round."""
    found: dict[str, list[Values]] = {system.name: [] for system in systems}
    for number in range(rounds):
        for system in systems if number % 2 == 0 else reversed(systems):
            values = system.values(run(system))
            found[system.name].append(values)
            shown = ", ".join(f"{metric} {value:.4g}" for metric, value in values.items())
            say(f"round {number + 1} of {rounds}, {system.name}: {shown}")
    return found


def ratio(ours: Sequence[float], theirs: Sequence[float], *, lower: bool) -> Ratio:
    """Ours by theirs, or theirs by ours where less is better."""
    above, below = (theirs, ours) if lower else (ours, theirs)
    each = [a / b for a, b in zip(above, below, strict=True)]
    return Ratio(median(above) / median(below), min(each), max(each))


def report(
    systems: Sequence[System], found: Mapping[str, Sequence[Values]], lower: Sequence[str]
) -> dict[str, Any]:
    """Medians, least and most of every metric of every system; ratios of the first to each other one."""
    first = systems[0]
    lines = []
    for system in systems:
        for metric in system.keys:
            values = [each[metric] for each in found[system.name]]
            line = {
                "system": system.name,
                "metric": metric,
                "median": median(values),
                "min": min(values),
                "max": max(values),
                "rounds": values,
                "ratio": None,
            }
            if system is not first and metric in first.keys:
                ours = [each[metric] for each in found[first.name]]
                line["ratio"] = vars(ratio(ours, values, lower=metric in lower))
            lines.append(line)
    return {"first": first.name, "rounds": len(found[first.name]), "lines": lines}


def as_text(found: Mapping[str, Any]) -> str:
    """A Markdown table."""
    lines = [
        f"{found['rounds']} rounds in turn; a ratio above 1: {found['first']} is better",
        "",
        f"| metric | system | median (least-most) | {found['first']} to it (least-most) |",
        "| --- | --- | --- | --- |",
    ]
    metrics = dict.fromkeys(line["metric"] for line in found["lines"])
    for metric in metrics:
        for line in found["lines"]:
            if line["metric"] != metric:
                continue
            of = line["ratio"]
            value = f"{line['median']:.4g} ({line['min']:.4g}-{line['max']:.4g})"
            paired = f"{of['median']:.2f} ({of['least']:.2f}-{of['most']:.2f})" if of else ""
            lines.append(f"| {metric} | {line['system']} | {value} | {paired} |")
    return "\n".join(lines) + "\n"


def parse_key(text: str) -> tuple[str, Key]:
    """'ttft=results.0.ttft_s*1000' -> its name and place"""
    name, equals, place = text.partition("=")
    path, times, factor = place.partition("*")
    if not name or not equals or not path:
        raise PairError(f"{text!r} is not METRIC=PATH or METRIC=PATH*FACTOR")
    try:
        return name, Key(tuple(path.split(".")), float(factor) if times else 1.0)
    except ValueError:
        raise PairError(f"{text!r}: {factor!r} is no number") from None


def parse_system(words: Sequence[str]) -> System:
    """Name, command, keys."""
    if len(words) < 3:
        raise PairError("--system takes a name, a command and at least one METRIC=PATH")
    name, command, *keys = words
    split = tuple(shlex.split(command))
    if not split:
        raise PairError(f"{name}: the command is empty")
    return System(name, split, dict(map(parse_key, keys)))


def main(arguments: Sequence[str] | None = None, run: Run = run_command) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--system", nargs="+", action="append", required=True, metavar="NAME COMMAND METRIC=PATH"
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--lower", action="append", default=[], help="a metric of which less is better"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    given = parser.parse_args(arguments)
    try:
        systems = [parse_system(words) for words in given.system]
        if len({system.name for system in systems}) < max(len(systems), 2) or given.rounds < 1:
            raise PairError("at least two systems of different names, and one round")
        found = rounds_of(systems, given.rounds, run, lambda text: print(text, file=sys.stderr))
    except PairError as error:
        print(f"pair: {error}", file=sys.stderr)
        return 2
    result = report(systems, found, given.lower)
    print(json.dumps(result) if given.json else as_text(result), end="\n" if given.json else "")
    return 0


if __name__ == "__main__":
    sys.exit(main())
