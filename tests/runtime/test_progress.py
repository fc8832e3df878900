"""Every form of progress takes the same calls; JSON lines carry units, seconds and time left."""

from __future__ import annotations

import io
import json
from itertools import count

import pytest

from hearth.runtime import progress


def lines(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_json_lines_tell_the_time_left() -> None:
    stream, ticks = io.StringIO(), count()
    told = progress.JsonLines(stream, clock=lambda: float(next(ticks)), interval=0.5)
    told.start("pack", 10)
    told.advance(4)
    told.done()
    events = lines(stream)
    assert [event["event"] for event in events] == ["start", "advance", "done"]
    assert events[0]["left"] is None
    assert events[1]["units"] == 4
    seconds = events[1]["seconds"]
    assert isinstance(seconds, float)
    assert events[1]["left"] == pytest.approx(seconds * 6 / 4)


def test_json_lines_are_throttled() -> None:
    stream = io.StringIO()
    told = progress.JsonLines(stream, clock=lambda: 0.0, interval=0.5)
    told.start("pack", 1000)
    for _ in range(1000):
        told.advance(1)
    told.done()
    assert [event["event"] for event in lines(stream)] == ["start", "done"]


def test_a_step_ends_even_when_it_fails() -> None:
    stream = io.StringIO()
    told = progress.JsonLines(stream)
    with pytest.raises(ZeroDivisionError), progress.step(told, "pack", 3) as advance:
        advance(1 // 0)
    assert lines(stream)[-1]["event"] == "done"


def test_bar_shows_the_title() -> None:
    stream = io.StringIO()
    bar = progress.Bar(stream)
    with progress.step(bar, "pack weights", 3) as advance:
        advance(3)
    assert "pack weights" in stream.getvalue()


def test_without_a_terminal_nothing_is_drawn(capsys: pytest.CaptureFixture[str]) -> None:
    with progress.step(progress.choose(), "pack", 3) as advance:
        advance(1)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(("units", "total"), [(0, 10), (3, 0)])
def test_time_left_is_unknown_without_counts(units: int, total: int) -> None:
    assert progress.seconds_left(1.0, units, total) is None
