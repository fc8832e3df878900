"""Running threads' affinity, read back from the kernel: during runs, and what is left of it afterwards."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from conftest import Archives
from support.engines import Talk, expected, ready, weights
from support.forks import in_child

from hearth.runtime import load, native
from hearth.runtime.machine.affinity import usable_cores
from hearth.runtime.machine.topology import core_list
from hearth.runtime.machine.whereabouts import whereabouts, whereabouts_text
from hearth.schemas.errors import UsageError

CORES = sorted(usable_cores())
TASKS = Path("/proc/self/task")
two_cores = pytest.mark.skipif(len(CORES) < 2, reason="this process may use one core alone")


def tasks() -> set[int]:
    return {int(place.name) for place in TASKS.iterdir()}


def allowed(task: int) -> set[int]:
    """As the kernel says of a thread of this process."""
    lines = (TASKS / str(task) / "status").read_text().splitlines()
    fields = dict(line.split(":", 1) for line in lines)
    return set(core_list(fields["Cpus_allowed_list"]))


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """Whatever a test does, the next one starts with all cores."""
    before = os.sched_getaffinity(0)
    yield
    after = os.sched_getaffinity(0)
    os.sched_setaffinity(0, before)
    assert after == before


class Long:
    """An engine whose run takes some tenths of a second, and its workers."""

    def __init__(self, threads: int) -> None:
        rows, cols = 1 << 14, 16
        before = tasks()
        self.engine = native.Engine(weights(), rows * cols * 4, 64, 0, threads, "portable")
        self.workers = sorted(tasks() - before)
        self.rows = rows
        self.engine.add_entry(rows, 0, [], [])
        place = (1, 0, cols * 4)
        for _ in range(100 * threads):
            opcode = native.contracts()["activate"]
            self.engine.add_command(0, opcode, -1, [place, place], [cols, 1], [])
        self.engine.finish()

    def seen(self) -> tuple[list[set[int]], set[int]]:
        """Cores of the caller, then of each worker, in the middle of a run; and the caller's afterwards."""
        found: list[set[int]] = []
        after: set[int] = set()
        done = threading.Event()

        def work() -> None:
            self.engine.run(native.State(0), 0, self.rows, 0, [], [])
            after.update(os.sched_getaffinity(0))
            done.set()

        caller = threading.Thread(target=work)
        caller.start()
        time.sleep(0.02)
        assert caller.native_id is not None
        found = [allowed(task) for task in (caller.native_id, *self.workers)]
        assert not done.is_set(), "the run was too short to look into"
        caller.join()
        return found, after


@two_cores
def test_each_thread_stays_on_its_core_while_it_runs() -> None:
    first, second = CORES[:2]
    long = Long(2)
    for cores in ([[first], [second]], [[second], [first]], [[second], [second]]):
        long.engine.place(0, cores, True)
        assert long.seen() == ([set(each) for each in cores], set(CORES))
        read = long.engine.whereabouts(0)
        assert [had for had, _ in read] == cores
    long.engine.place(0, [], True)
    assert long.seen() == ([set(CORES)] * 2, set(CORES))


@two_cores
def test_a_wish_of_nobody_gives_way_to_the_callers_cores() -> None:
    """A thread that was moved after the load computes where it may be, and so do the workers."""
    first, second = CORES[:2]
    talk = Talk(ready(2))
    talk.engine.place(0, [[first], [second]], False)
    os.sched_setaffinity(0, {second})
    try:
        talk.feed([1])
        assert [had for had, _ in talk.engine.whereabouts(0)] == [[second], [second]]
        assert talk.engine.whereabouts(0)[1][1] == [second]
    finally:
        os.sched_setaffinity(0, CORES)
    talk.feed([1])
    assert [had for had, _ in talk.engine.whereabouts(0)] == [[first], [second]]


@two_cores
def test_the_caller_is_as_before_after_success_error_and_fork() -> None:
    engine = ready(2)
    engine.place(0, [[CORES[1]], [CORES[0]]], True)
    tokens = [3, 1, 4]

    def right() -> None:
        np.testing.assert_array_equal(Talk(engine).feed(tokens, 3), expected(tokens))
        assert [had for had, _ in engine.whereabouts(0)] == [[CORES[1]], [CORES[0]]]
        assert os.sched_getaffinity(0) == set(CORES)

    right()
    with pytest.raises(ValueError, match="token id"):
        Talk(engine).feed([10**6])
    assert os.sched_getaffinity(0) == set(CORES)
    in_child(right)
    right()


@pytest.mark.parametrize(
    "cores", [[[0]], [[0], []], [[-1], [0]], [[0], [1 << 20]], [[0], [0], [0]]]
)
def test_a_placement_is_whole(cores: list[list[int]]) -> None:
    with pytest.raises(ValueError, match=r"placement|core"):
        ready(2).place(0, cores, True)


def test_a_core_that_is_not_there_is_no_failure() -> None:
    """Affinity is a wish: what the kernel refuses leaves the thread where it was."""
    engine = ready(2)
    engine.place(0, [[1023], [1023]], True)
    np.testing.assert_array_equal(Talk(engine).feed([1, 2], 2), expected([1, 2]))
    assert os.sched_getaffinity(0) == set(CORES)


@two_cores
def test_phases_of_a_model(archives: Archives) -> None:
    first, second = CORES[:2]
    path = archives("tiny", weights="int4")
    model = load(path, threads=1, prefill_affinity=str(first), decode_affinity=hex(1 << second))
    session = model.session()
    logits = session.prefill([1, 2, 3])
    assert "decode" not in whereabouts(model)["affinity"]
    session.decode(int(logits.argmax()))
    found = whereabouts(model)["affinity"]
    assert found["prefill"] == {
        "asked": True,
        "cores": [[first]],
        "threads": [{"allowed": [first], "ran_on": [first]}],
    }
    assert found["decode"]["threads"] == [{"allowed": [second], "ran_on": [second]}]
    assert os.sched_getaffinity(0) == set(CORES)
    text = whereabouts_text(whereabouts(model))
    assert text[0] == f"prefill: 1 threads, cores asked {first}, had {first} (seen on {first})"


def test_threads_are_as_many_as_the_cores_asked_for(archives: Archives) -> None:
    path = archives("tiny", weights="int4")
    assert load(path, affinity=[CORES[0]]).threads == 1
    with pytest.raises(UsageError) as refused:
        load(path, threads=2, affinity=[CORES[0]])
    assert refused.value.code == "arguments.affinity"
