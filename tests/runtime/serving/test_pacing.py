"""The tokens of a step come to what takes the time that was asked for, and never go beyond it."""

from __future__ import annotations

import pytest

from hearth.runtime.serving.pacing import LEAST, Pacing

CHUNK = 512


def steps(pacing: Pacing, writing: int, count: int, fixed_s: float, token_s: float) -> list[float]:
    """What so many steps take on a machine of which Pacing knows nothing."""
    took = []
    for _ in range(count):
        tokens = writing + pacing.share(writing)
        took.append(fixed_s + token_s * tokens)
        pacing.learn(tokens, took[-1])
    return took


@pytest.mark.parametrize("gap_s", [0.03, 0.06, 0.2])
@pytest.mark.parametrize("token_s", [0.0005, 0.001])
def test_steps_come_near_the_gap_from_below(gap_s: float, token_s: float) -> None:
    took = steps(Pacing(gap_s, CHUNK, tokens=16), 4, 12, 0.009, token_s)
    assert took == sorted(took)
    assert gap_s - 2 * token_s <= took[-1] <= gap_s + token_s / 2


def test_one_slow_step_is_soon_forgotten() -> None:
    pacing = Pacing(0.03, CHUNK)
    *_, before = steps(pacing, 4, 12, 0.009, 0.001)
    pacing.learn(4 + pacing.share(4), 0.5)
    assert pacing.share(4) == LEAST
    *_, after = steps(pacing, 4, 6, 0.009, 0.001)
    assert after == pytest.approx(before, abs=0.001)


def test_more_rows_that_write_leave_less_for_prompts() -> None:
    pacing = Pacing(0.1, CHUNK, tokens=60)
    assert [pacing.share(writing) for writing in (1, 8, 40, 100)] == [59, 52, 20, LEAST]


def test_prompts_are_read_however_slow_the_machine() -> None:
    pacing = Pacing(0.0, CHUNK)
    steps(pacing, 7, 3, 0.1, 0.1)
    assert pacing.share(7) == LEAST


def test_no_step_is_larger_than_a_run() -> None:
    pacing = Pacing(float("inf"), CHUNK)
    steps(pacing, 3, 2, 0.1, 0.1)
    assert pacing.share(3) == CHUNK - 3
    assert pacing.share(CHUNK - 2) == 2


def test_prompts_are_read_where_rows_that_write_fill_a_run() -> None:
    assert [Pacing(0.03, CHUNK).share(writing) for writing in (CHUNK, CHUNK + 9)] == [1, 1]


def test_a_step_with_room_left_says_only_that_there_were_too_many() -> None:
    pacing = Pacing(0.03, CHUNK, tokens=40)
    pacing.learn(10, 0.02)
    assert pacing.tokens == 40
    pacing.learn(10, 0.04)
    assert pacing.tokens == 8
