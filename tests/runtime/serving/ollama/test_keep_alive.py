"""keep_alive: every form that Ollama's clients send."""

from __future__ import annotations

import math

import pytest

from hearth.runtime.serving.ollama.keep_alive import seconds_of
from hearth.runtime.serving.refusals import Refusal


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        ("", None),
        (0, 0.0),
        ("0", 0.0),
        ("0s", 0.0),
        (300, 300.0),
        (1.5, 1.5),
        ("300", 300.0),
        ("5m", 300.0),
        ("1h30m", 5400.0),
        ("1.5h", 5400.0),
        ("100ms", 0.1),
        ("2m0.5s", 120.5),
    ],
)
def test_durations_and_seconds(value: object, seconds: float | None) -> None:
    assert seconds_of(value) == pytest.approx(seconds)


@pytest.mark.parametrize("value", [-1, -1.0, "-1", "-1s", "-5m", -(10**400)])
def test_less_than_nothing_is_for_ever(value: object) -> None:
    assert seconds_of(value) == math.inf


def test_an_integer_beyond_doubles_is_a_long_time() -> None:
    assert seconds_of(10**400) > 1e300


@pytest.mark.parametrize("value", ["5 minutes", "m", "1h-5m", "5m ", True, [], {}, math.nan])
def test_what_is_no_duration_is_refused_by_the_fields_name(value: object) -> None:
    with pytest.raises(Refusal, match="keep_alive") as caught:
        seconds_of(value)
    assert caught.value.status == 400
