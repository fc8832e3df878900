"""`--activations auto`: which inputs keep a scale per row, judged by the compiled archive on the calibration text.

Static codes are taken wherever they can be: as few inputs as possible stay dynamic, the loudest first (those whose
power loses most by one scale for all), so that the archive's mean surprise is at most `MOST_LOSS` nats above that of
the same codes with all inputs dynamic. A search by halves: one archive with all of them dynamic, one with none, then
log2 of the number of inputs; weights are coded once for all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import expm1
from pathlib import Path

import numpy as np

from hearth.compiler.calibrate.run import Ids
from hearth.compiler.package import Package, require_disk, write_parts
from hearth.compiler.quantize import Statics
from hearth.runtime.archive import ArchiveWriter
from hearth.runtime.evaluation import Window, window_nats
from hearth.runtime.loader import model_of
from hearth.runtime.progress import Progress, Silent, step

MOST_LOSS = 0.005  # nats a token: half a percent of the perplexity
TRIAL = "coded-trial"  # a file of the work folder, removed like all of it
WINDOWS = 8  # of the calibration text that archives are measured on

Inputs = Sequence[tuple[str, ...]]  # each the weights that read it, the loudest first


@dataclass(frozen=True)
class Choice:
    """The inputs that stay dynamic, and what static codes cost: for all inputs, and for the others (nats a token)."""

    dynamic: frozenset[str]
    kept: int
    inputs: int
    all_static: float
    taken: float

    @property
    def note(self) -> str:
        """For the person who compiles."""
        return (
            f"activations: {self.inputs - self.kept} of {self.inputs} inputs are static, perplexity"
            f" {expm1(self.taken):+.2%} over all dynamic (all static: {expm1(self.all_static):+.2%})"
        )


def choose(
    inputs: Inputs, loss: Callable[[frozenset[str]], float], most: float = MOST_LOSS
) -> Choice:
    """`loss` gives the mean surprise of an archive whose weights of these names read dynamic codes."""

    def first(count: int) -> frozenset[str]:
        return frozenset(name for names in inputs[:count] for name in names)

    least = loss(first(len(inputs)))
    none = loss(first(0)) - least
    fits, taken = (0, none) if none <= most else (len(inputs), 0.0)
    low = 0  # the most that is known to be too few
    while fits - low > 1:
        middle = (low + fits) // 2
        excess = loss(first(middle)) - least
        if excess <= most:
            fits, taken = middle, excess
        else:
            low = middle
    return Choice(first(fits), fits, len(inputs), none, taken)


def chosen(
    statics: Statics,
    inputs: Inputs,
    package: Callable[[Statics], Package],
    ids: Ids,
    beside: Path,
    progress: Progress,
    threads: int,
) -> tuple[Statics, Choice]:
    """The statics with the inputs that stay dynamic. `package` makes an archive, which lies in `beside` for a moment;
    `ids` i32[W, T] are the windows of the text, of 2 tokens or more."""
    windows = [Window(ids, len(ids) - 1) for ids in ids[:WINDOWS]]
    trials = 2 + max(len(inputs) - 1, 1).bit_length()

    with step(progress, "choose static inputs", trials) as advance:

        def loss(dynamic: frozenset[str]) -> float:
            made = package(replace(statics, dynamic=dynamic))
            found = _mean_nats(made, windows, beside, threads)
            advance(1)
            return found

        choice = choose(inputs, loss)
    return replace(statics, dynamic=choice.dynamic), choice


def _mean_nats(package: Package, windows: Sequence[Window], beside: Path, threads: int) -> float:
    path = beside / TRIAL
    require_disk(path, package)
    try:
        with ArchiveWriter(path, expected_nbytes=package.expected_nbytes) as writer:
            write_parts(writer, package, Silent())
            model = model_of(writer.so_far(), threads or None)
            parts = list(window_nats(model, list(windows), lambda _: None))
    finally:
        path.unlink(missing_ok=True)
    return float(np.mean([part.mean() for part in parts]))
