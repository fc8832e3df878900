"""Stamps become times that add up to the run; lines carry what their commands have to do."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from hearth.runtime import load
from hearth.runtime.costs import Place, run_cost
from hearth.runtime.profiling import Profile, describe, times
from hearth.schemas.commands import Activation, Layout
from hearth.schemas.program import Command

if TYPE_CHECKING:
    from conftest import Archives


def test_commands_last_until_the_next_one_begins() -> None:
    ns = 10**9
    stamps = np.array(
        [
            [(10, 14), (0, 0), (16, 18), (19, 25)],
            [(11, 15), (0, 0), (17, 18), (20, 22)],
        ]
    ) * (ns // 10)
    found = times(stamps)
    assert [seconds for seconds, _ in found] == pytest.approx([0.6, 0, 0.3, 0.6])
    # two threads, less what they computed
    assert [waited for _, waited in found] == pytest.approx([1.2 - 0.8, 0, 0.6 - 0.3, 1.2 - 0.8])


def test_names() -> None:
    ints = (128, 64, int(Layout.Q4B16), 32, int(Activation.SWIGLU))
    assert describe(Command("linear", 1, (), ints)) == "linear 128 x 64 int4 swiglu"
    assert describe(Command("rms_norm", 1, (), (64,))) == "rms_norm 64"
    attention = Command("attention", 1, (), (4, 2, 16, 16, 100, 2, 0, 1))
    assert describe(attention) == "attention 4 heads of 16"
    assert describe(Command("embed", 1, (), (50, 64, 2, 0))) == "embed 50 x 64 int8"


@pytest.mark.parametrize("threads", [1, 2])
def test_of_a_model(archives: Archives, threads: int) -> None:
    model = load(archives("tiny", weights="int4"), threads=threads)
    model.engine.start_profile()
    entry = model.archive.program.entries["decode"]
    profile = Profile(entry, model.entry_numbers["decode"], model.engine, "decode")
    session = model.session()
    session.prefill([1, 2, 3])
    for token in (4, 5):
        session.decode(token)
        profile.add(Place(1, 1, session.position - 1))
    assert profile.runs == 2
    assert len(profile.lines) == len(entry.commands)
    assert all(line.calls == 2 and line.seconds > 0 for line in profile.lines)
    grouped = profile.grouped(lambda line: line.name)
    assert sum(line.calls for line in grouped) == 2 * len(entry.commands)
    assert sum(line.seconds for line in grouped) == pytest.approx(profile.seconds)
    assert [line.seconds for line in grouped] == sorted(
        (line.seconds for line in grouped), reverse=True
    )
    whole = run_cost(entry, Place(1, 1, 3)) + run_cost(entry, Place(1, 1, 4))
    assert sum(line.cost.memory_nbytes for line in grouped) == whole.memory_nbytes
    assert {line.kernel for line in profile.lines} <= set(
        model.engine.kernel_names(model.entry_numbers["decode"])
    )
