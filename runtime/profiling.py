"""Where a run's time goes: the engine's stamps, command by command, beside what each command has to do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from hearth.runtime import native
from hearth.runtime.costs import Cost, Place, command_costs
from hearth.schemas.commands import BY_NAME, Activation, Layout
from hearth.schemas.program import Command, Entry

LAYOUT_NAMES = {
    Layout.F32B16: "f32",
    Layout.F16B16: "f16",
    Layout.Q8B16: "int8",
    Layout.Q4B16: "int4",
    Layout.G4B16: "grouped int4",
    Layout.G8B16: "grouped int8",
    Layout.T2B16: "table of 2 bits",
    Layout.T3B16: "table of 3 bits",
    Layout.T4B16: "table of 4 bits",
    Layout.T5B16: "table of 5 bits",
    Layout.T6B16: "table of 6 bits",
}


@dataclass(frozen=True)
class Line:
    """A command or several alike over all runs: time from its begin to the next one's, in seconds."""

    name: str
    kernel: str
    calls: int
    seconds: float
    waited: float  # thread seconds spent in barriers and between begins
    cost: Cost

    def __add__(self, other: Line) -> Line:
        return Line(
            self.name,
            self.kernel,
            self.calls + other.calls,
            self.seconds + other.seconds,
            self.waited + other.waited,
            self.cost + other.cost,
        )


@dataclass
class Profile:
    """Sums over the runs of one entry; `add` after each of them. A prompt in several chunks is one run in all."""

    entry: Entry
    number: int
    engine: native.Engine
    name: str = ""
    runs: int = 0
    lines: list[Line] = field(default_factory=list)

    def add(self, place: Place, *, ends: bool = True) -> None:
        """Count what the entry did last, which was at that place; `ends`: the run is whole with it."""
        stamps = np.zeros((self.engine.threads, len(self.entry.commands), 2), np.int64)
        self.engine.read_stamps(self.number, stamps)
        costs = command_costs(self.entry, place)
        kernels = self.engine.kernel_names(self.number)
        found = []
        for index, (seconds, waited) in enumerate(times(stamps)):
            command = self.entry.commands[index]
            calls = int(stamps[0, index, 0] > 0)
            found.append(
                Line(describe(command), kernels[index], calls, seconds, waited, costs[index])
            )
        before = self.lines
        self.lines = [a + b for a, b in zip(before, found, strict=True)] if before else found
        self.runs += ends

    @property
    def seconds(self) -> float:
        """From the first command's begin to the last one's end, of all runs."""
        return sum(line.seconds for line in self.lines)

    def grouped(self, key: Callable[[Line], object]) -> list[Line]:
        """Lines alike added up, the longest first."""
        groups: dict[object, Line] = {}
        for line in self.lines:
            name = key(line)
            groups[name] = groups[name] + line if name in groups else line
        return sorted(groups.values(), key=lambda line: -line.seconds)


def times(stamps: NDArray[np.int64]) -> Sequence[tuple[float, float]]:
    """Of each command its seconds and the thread seconds waited, from stamps[threads, commands, 2] in ns.

    A command lasts until the next one begins in some thread, so that all add up to the run; what its threads do not
    compute of that they wait. Zeros, of a command without rows, are no time.
    """
    threads, commands, _ = stamps.shape
    ran = [index for index in range(commands) if stamps[:, index, 0].all()]
    found = [(0.0, 0.0)] * commands
    for index, following in zip(ran, [*ran[1:], None], strict=True):
        began = stamps[:, index, 0].min()
        ended = stamps[:, index, 1].max() if following is None else stamps[:, following, 0].min()
        busy = int((stamps[:, index, 1] - stamps[:, index, 0]).sum())
        wall = int(ended - began)
        found[index] = (wall / 1e9, max(threads * wall - busy, 0) / 1e9)
    return found


def describe(command: Command) -> str:
    """'linear 17920 x 1536 int4 swiglu': what tells commands of one op apart."""
    ints = dict(zip(BY_NAME[command.op].ints, command.ints, strict=True))
    words = [command.op]
    if "layout" in ints:
        words.append(f"{ints['N']} x {ints['K']} {LAYOUT_NAMES[Layout(ints['layout'])]}")
    if ints.get("activation", Activation.NONE) != Activation.NONE:
        words.append(Activation(ints["activation"]).name.lower())
    if "context" in ints:
        words.append(f"{ints['heads']} heads of {ints['head_dim']}")
    elif "layout" not in ints:
        words += [str(ints[name]) for name in ("K", "N") if name in ints]
    return " ".join(words)
