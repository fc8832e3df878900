"""Progress of long work, one step at a time: a bar with the time left, JSON lines, or nothing."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import IO, TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

Clock = Callable[[], float]


class Progress(Protocol):
    """Told of one step after the other: `start`, any number of `advance`, `done`.

    `units` are whatever the step counts (bytes, layers, tokens); they need not add up to the total.
    """

    def start(self, title: str, total_units: int) -> None: ...
    def advance(self, units: int) -> None: ...
    def done(self) -> None: ...


@contextmanager
def step(progress: Progress, title: str, total_units: int) -> Iterator[Callable[[int], None]]:
    """`with step(progress, "pack weights", n) as advance:` ends the step however the block ends."""
    progress.start(title, total_units)
    try:
        yield progress.advance
    finally:
        progress.done()


class Silent:
    """Says nothing."""

    def start(self, title: str, total_units: int) -> None:
        """Nothing."""

    def advance(self, units: int) -> None:
        """Nothing."""

    def done(self) -> None:
        """Nothing."""


class JsonLines:
    """One JSON object per line: {"event", "title", "units", "total", "seconds", "left"}.

    `left` is the estimated number of seconds to go (null while unknown). Between start and done at
    most one line is written per `interval` seconds.
    """

    def __init__(
        self,
        stream: IO[str] | None = None,
        *,
        clock: Clock = time.monotonic,
        interval: float = 0.5,
    ) -> None:
        self._stream = sys.stderr if stream is None else stream
        self._clock, self._interval = clock, interval
        self._title, self._total, self._units = "", 0, 0
        self._began = self._written = 0.0

    def start(self, title: str, total_units: int) -> None:
        """Begin a step and write its first line."""
        self._title, self._total, self._units = title, total_units, 0
        self._began = self._clock()
        self._write("start")

    def advance(self, units: int) -> None:
        """Count units; a line only where the last one is old enough."""
        self._units += units
        if self._clock() - self._written >= self._interval:
            self._write("advance")

    def done(self) -> None:
        """End the step with a line of what it came to."""
        self._write("done")

    def _write(self, event: str) -> None:
        self._written = self._clock()
        seconds = self._written - self._began
        line = {
            "event": event,
            "title": self._title,
            "units": self._units,
            "total": self._total,
            "seconds": round(seconds, 3),
            "left": seconds_left(seconds, self._units, self._total),
        }
        with suppress(OSError):  # work goes on where nobody can be told of it
            self._stream.write(json.dumps(line) + "\n")
            self._stream.flush()


class Bar:
    """A bar on the terminal (stderr) with the share done and the time left, one line per step."""

    def __init__(self, stream: IO[str] | None = None) -> None:
        self._stream = stream
        self._bar: RichProgress | None = None
        self._task: TaskID | None = None

    def start(self, title: str, total_units: int) -> None:
        """Draw a fresh line."""
        self._bar = _rich_bar(self._stream)
        self._bar.start()
        self._task = self._bar.add_task(title, total=max(total_units, 1))

    def advance(self, units: int) -> None:
        """Move the bar."""
        if self._bar is not None and self._task is not None:
            self._bar.advance(self._task, units)

    def done(self) -> None:
        """Leave the finished line standing."""
        if self._bar is not None:
            self._bar.stop()
        self._bar = self._task = None


def _rich_bar(stream: IO[str] | None) -> RichProgress:
    """Rich's bar; imported here, for a program that shows none need not pay for it."""
    from rich.console import Console
    from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as RichProgress

    console = Console(stderr=True) if stream is None else Console(file=stream)
    return RichProgress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(elapsed_when_finished=True),
        console=console,
    )


def seconds_left(seconds: float, units: int, total: int) -> float | None:
    """The time to go if the rest runs as the part done did; None while nothing is known."""
    if units <= 0 or total <= 0:
        return None
    return round(max(0.0, seconds * (total - units) / units), 1)


def choose(*, json_lines: bool = False, quiet: bool = False) -> Progress:
    """The form a command uses: JSON lines if asked for, a bar on a terminal, else silence."""
    if quiet:
        return Silent()
    if json_lines:
        return JsonLines()
    return Bar() if sys.stderr.isatty() else Silent()
