"""When commands began and ended: noted only where asked for, in order, with the same logits and no allocation."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from support.engines import PROGRAM, VOCAB, Talk, blank, expected, ready

from hearth.runtime import native

TOKENS = np.random.default_rng(2).integers(0, VOCAB, 12).tolist()


def _stamps(engine: native.Engine) -> NDArray[np.int64]:
    out = np.full((engine.threads, len(PROGRAM), 2), -1, np.int64)
    engine.read_stamps(0, out)
    return out


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_commands_follow_each_other(threads: int) -> None:
    engine = ready(threads)
    engine.start_profile()
    np.testing.assert_array_equal(Talk(engine).feed(TOKENS, 3), expected(TOKENS)[-3:])
    stamps = _stamps(engine)
    assert (stamps > 0).all()
    flat = stamps.reshape(threads, -1)
    assert (np.diff(flat, axis=1) >= 0).all()


def test_a_command_without_rows_has_none() -> None:
    engine = ready(2)
    engine.start_profile()
    talk = Talk(engine)
    talk.feed(TOKENS[:4], 1)
    assert (_stamps(engine) > 0).all()
    talk.feed(TOKENS[4:], 0)
    stamps = _stamps(engine)
    without = [line.rows == -2 for line in PROGRAM]
    assert (stamps[:, without] == 0).all()
    assert (stamps[:, np.invert(without)] > 0).all()


def test_a_run_allocates_nothing() -> None:
    engine = ready(2)
    engine.start_profile()
    talk = Talk(engine)
    talk.feed(TOKENS[:3], 1)
    before = native.allocations()
    talk.feed(TOKENS[3:6], 1)
    assert native.allocations() == before


def test_without_it_there_are_no_stamps() -> None:
    engine = ready()
    Talk(engine).feed(TOKENS, 1)
    with pytest.raises(ValueError, match="no profile"):
        _stamps(engine)
    engine.start_profile()
    with pytest.raises(ValueError, match="no profile"):
        engine.read_stamps(0, np.zeros((1, 1, 2), np.int64))
    with pytest.raises(ValueError, match="no such entry"):
        engine.read_stamps(1, np.zeros((1, 1, 2), np.int64))


def test_not_before_the_engine_is_finished() -> None:
    with pytest.raises(RuntimeError, match="finish"):
        blank().start_profile()
