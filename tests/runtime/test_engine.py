"""The executor on a hand-made program: numpy's bits whatever the threads and chunks; nothing allocated; clean ends."""

from __future__ import annotations

import ctypes
import os
import platform
import re
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from support.engines import (
    ARENA_NBYTES,
    CONTEXT,
    IO,
    IO_NBYTES,
    KV_NBYTES,
    LOGITS,
    MOST,
    PROGRAM,
    VOCAB,
    Line,
    R,
    Talk,
    expected,
    ready,
    weights,
)
from support.forks import in_child

from hearth.runtime import native
from hearth.schemas.commands import Activation

TOKENS = np.random.default_rng(1).integers(0, VOCAB, CONTEXT).tolist()
LOGITS_PLACE = (IO, 64, LOGITS)
KERNELS = Path(__file__).parents[2] / "runtime" / "kernels"


def _chunks(engine: native.Engine, tokens: Sequence[int], size: int) -> np.ndarray:
    talk = Talk(engine)
    parts = [tokens[start : start + size] for start in range(0, len(tokens), size)]
    return np.concatenate([talk.feed(part, len(part)) for part in parts])


@pytest.mark.parametrize("threads", [1, 2, 3, 8])
@pytest.mark.parametrize("isa", native.isas())
def test_equals_numpy_whatever_the_chunks(isa: str, threads: int) -> None:
    engine = ready(threads, isa)
    assert (engine.isa, engine.threads) == (isa, threads)
    for size in (1, 5, MOST):
        np.testing.assert_array_equal(_chunks(engine, TOKENS, size), expected(TOKENS))


def test_rows_asked_for() -> None:
    engine = ready(2)
    want = expected(TOKENS)
    for rows in (0, 1, 3, 7):
        np.testing.assert_array_equal(Talk(engine).feed(TOKENS[:7], rows), want[7 - rows : 7])


def test_a_chunk_without_logits_still_fills_the_cache() -> None:
    talk = Talk(ready())
    talk.feed(TOKENS[:9], 0)
    np.testing.assert_array_equal(talk.feed(TOKENS[9:10]), expected(TOKENS)[9:10])


def test_rewound_and_replayed() -> None:
    talk = Talk(ready())
    talk.feed(TOKENS[:10])
    talk.feed(TOKENS[20:30])
    talk.position = 10
    np.testing.assert_array_equal(talk.feed(TOKENS[10:20], 10), expected(TOKENS)[10:20])


def test_kernels_follow_isa_and_operands() -> None:
    """The head reads q8 records, because that is what was written to its operand."""
    for isa in native.isas():
        names = ready(1, isa).kernel_names(0)
        assert all(name.endswith(isa) for name in names)
        assert names[-1] == f"linear_q8_q4b16_{isa}"


def test_logits_are_written_wherever_they_are_wanted() -> None:
    """Into the caller's array itself where the head is all that touches them; an odd address is none for floats."""
    engine, want = ready(2), expected(TOKENS[:5])
    memory = np.full(5 * VOCAB * 4 + 8, 7, np.uint8)
    for odd in (4, 2):
        found = memory[odd:][: 5 * VOCAB * 4].view(np.float32).reshape(5, VOCAB)
        ids = np.array(TOKENS[:5], np.int32)
        engine.run(native.State(KV_NBYTES), 0, 5, 0, [ids], [found])
        assert found.tobytes() == want.tobytes()
        assert (memory[:odd] == 7).all()
    line = Line("activate", R, (LOGITS_PLACE, LOGITS_PLACE), (VOCAB, int(Activation.RELU)))
    talk = Talk(ready(2, program=[*PROGRAM, line]))
    np.testing.assert_array_equal(talk.feed(TOKENS[:5], 5), np.maximum(want, 0))
    twice = Talk(ready(2, program=[*PROGRAM, PROGRAM[-1]]))
    np.testing.assert_array_equal(twice.feed(TOKENS[:5], 5), want)


def test_states_take_turns() -> None:
    engine = ready(2)
    talks = [Talk(engine) for _ in range(3)]
    order = [TOKENS, TOKENS[::-1], TOKENS[7:] + TOKENS[:7]]
    for step in range(CONTEXT):
        for talk, tokens in zip(talks, order, strict=True):
            last = talk.feed(tokens[step : step + 1])
            np.testing.assert_array_equal(last, expected(tokens[: step + 1])[-1:])


def test_python_threads_share_an_engine() -> None:
    engine = ready(2)
    results: dict[int, np.ndarray] = {}

    def work(number: int) -> None:
        results[number] = _chunks(engine, TOKENS[number:], 3)

    workers = [threading.Thread(target=work, args=(number,)) for number in range(5)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    for number, result in results.items():
        np.testing.assert_array_equal(result, expected(TOKENS[number:]))
    assert len(results) == 5


def test_the_rounding_of_the_caller_changes_nothing() -> None:
    """Whatever mode a library has left in the calling thread, which computes too."""
    libm = ctypes.CDLL("libm.so.6")
    engines = [ready(threads) for threads in (1, 2)]
    upward, nearest = 0x800, 0
    if platform.machine() != "x86_64":
        pytest.skip("the numbers of rounding modes are those of x86-64")
    for engine in engines:
        assert libm.fesetround(upward) == 0
        try:
            found = _chunks(engine, TOKENS, 5)
            assert libm.fegetround() == upward
        finally:
            libm.fesetround(nearest)
        np.testing.assert_array_equal(found, expected(TOKENS))


def test_a_run_allocates_nothing() -> None:
    engine = ready(3)
    talk = Talk(engine)
    logits = np.zeros((1, VOCAB), np.float32)
    steps = [np.array([token], np.int32) for token in TOKENS]
    before = native.allocations()
    for position, token in enumerate(steps):
        engine.run(talk.state, 0, 1, position, [token], [logits])
    assert native.allocations() == before


def test_allocations_are_counted() -> None:
    before = native.allocations()
    ready()
    assert native.allocations() > before


def test_native_code_allocates_only_where_it_is_counted() -> None:
    """operator new is counted, and so is Pages; nothing else may ask the system for memory of its own."""
    asking = re.compile(r"\b(malloc|calloc|realloc|aligned_alloc|posix_memalign|mmap|alloca)\(")
    sources = [path for end in ("cc", "h") for path in KERNELS.rglob(f"*.{end}")]
    found = {path.name for path in sources if asking.search(path.read_text())}
    found -= {"rows.h"}  # quantise/rows.h works at compile time
    found -= {"mapping.cc"}  # maps a file, at load
    assert found == {"pages.cc", "count.cc"}


def test_the_callers_cores_are_restored() -> None:
    """Where a thread is kept on a core while it computes, it is free again afterwards."""
    cores = os.sched_getaffinity(0)
    for allowed in (cores, {min(cores)}):
        os.sched_setaffinity(0, allowed)
        try:
            talk = Talk(ready(len(allowed)))
            np.testing.assert_array_equal(talk.feed(TOKENS[:4], 4), expected(TOKENS[:4]))
            assert os.sched_getaffinity(0) == allowed
        finally:
            os.sched_setaffinity(0, cores)


def test_the_gil_is_released() -> None:
    """Python code makes progress inside a long run."""
    table = np.zeros(64 * 4 * 16 + 64, np.uint8)
    table = table[-table.ctypes.data % 64 :][: 64 * 4 * 16]
    rows, cols = 1 << 14, 16
    engine = native.Engine(table, rows * cols * 4, 1 << 20, 0, 1, "portable")
    engine.add_entry(rows, 0, [], [])
    place = (1, 0, cols * 4)
    for _ in range(400):
        engine.add_command(0, native.contracts()["activate"], -1, [place, place], [cols, 1], [])
    engine.finish()
    state = native.State(0)
    window: list[float] = []

    def work() -> None:
        window.append(time.perf_counter())
        engine.run(state, 0, rows, 0, [], [])
        window.append(time.perf_counter())

    worker = threading.Thread(target=work)
    worker.start()
    ticks = []
    while worker.is_alive():
        ticks.append(time.perf_counter())
        time.sleep(0.002)
    worker.join()
    inside = [tick for tick in ticks if window[0] + 0.01 < tick < window[1] - 0.01]
    assert window[1] - window[0] < 0.05 or inside


def test_a_forked_child_runs_and_ends() -> None:
    engine = ready(3)
    want = expected(TOKENS)
    np.testing.assert_array_equal(_chunks(engine, TOKENS, 5), want)

    def work() -> None:
        np.testing.assert_array_equal(_chunks(engine, TOKENS, 5), want)

    in_child(work)
    in_child(lambda: None)
    np.testing.assert_array_equal(_chunks(engine, TOKENS, 5), want)


def test_engines_come_and_go() -> None:
    for _ in range(30):
        engine = ready(4)
        Talk(engine).feed(TOKENS[:2])
        del engine
    ready(5)  # never run


def test_the_process_ends_with_an_engine_alive() -> None:
    code = (
        "from support.engines import Talk, ready\n"
        "talk = Talk(ready(3))\n"
        "talk.feed([1, 2, 3])\n"
        "keep = [talk, talk.engine]; keep.append(keep)\n"
    )
    path = [str(Path(__file__).parents[1]), *sys.path]
    environment = {**os.environ, "PYTHONPATH": ":".join(path)}
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60, env=environment)


def test_a_fresh_state_is_zero_and_costs_no_memory() -> None:
    states = [native.State(1 << 32) for _ in range(8)]
    assert len(states) == 8
    with pytest.raises(ValueError, match="negative"):
        native.State(-1)
    with pytest.raises(MemoryError):
        native.State(1 << 60)


def test_the_weights_stay_alive() -> None:
    engine = native.Engine(weights(), ARENA_NBYTES, IO_NBYTES, KV_NBYTES, 1, "portable")
    del engine
    talk = Talk(ready())  # nothing else holds its weights
    np.testing.assert_array_equal(talk.feed(TOKENS[:3], 3), expected(TOKENS[:3]))
