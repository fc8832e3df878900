"""`hearth bench` under a clock and limits that are made up: every figure follows from them; its JSON keeps its keys."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support.command_line import hearth

from hearth.runtime import load
from hearth.runtime.commands.bench_machine import Memory, processor
from hearth.runtime.commands.bench_measure import measure
from hearth.runtime.commands.bench_plan import Bench, Plan
from hearth.runtime.commands.bench_profile import of_limit, profile_bench, profile_text
from hearth.runtime.commands.bench_subjects import Found, Subject
from hearth.runtime.commands.bench_text import as_text
from hearth.runtime.costs import Cost, Place, prefill_cost, run_cost
from hearth.runtime.machine.energy import Counter, EnergyMeter
from hearth.runtime.machine.limits import Sample, limits_of
from hearth.runtime.options import Options
from hearth.runtime.profiling import Line
from hearth.runtime.progress import Silent
from hearth.schemas.errors import InputError, UsageError

if TYPE_CHECKING:
    from conftest import Archives

Capture = pytest.CaptureFixture[str]
READ, MAPPING, INT8, F32 = 1e6, 2e6, 4e6, 8e6
SAMPLE = Sample((READ,), (MAPPING,), (INT8,), (F32,))
TOP = {
    "file", "nbytes", "kind", "isa", "runs", "seed", "machine", "first_load_s", "load_s", "cold", "limits",
    "results", "contexts", "batches", "rss_after_load_nbytes", "peak_rss_nbytes",
}  # fmt: skip
DECODE = {
    "decode_tokens", "decode_tokens_per_s", "decode_nbytes_per_token", "decode_bytes_per_s",
    "decode_of_read", "decode_of_mapping", "decode_joules_per_token",
}  # fmt: skip
PROMPT = {
    "threads", "prompt_tokens", "first_ttft_s", "ttft_s", "prefill_tokens_per_s", "prefill_int8_operations",
    "prefill_f32_operations", "prefill_of_int8_peak", "prefill_of_f32_peak", "prefill_joules_per_token",
    "rss_nbytes", "huge_nbytes", "affinity", *DECODE,
}  # fmt: skip
LIMITS = {
    "threads", "read_bytes_per_s", "mapping_bytes_per_s", "int8_operations_per_s", "f32_operations_per_s",
}  # fmt: skip
LINE = {
    "op", "kernel", "calls", "seconds", "share", "memory_nbytes", "nbytes", "bytes_per_s", "int8_operations",
    "f32_operations", "operations_per_s", "of_limit", "waiting",
}  # fmt: skip


@dataclass
class Constant:
    """A machine that is always the same."""

    def sample(self) -> Sample:
        return SAMPLE


def _meter(measured: Subject, threads: int) -> Constant:
    return Constant()


@pytest.fixture(scope="module")
def archive(archives: Archives) -> Path:
    return archives("tiny", weights="int4", kv="int8")


def _seconds() -> Callable[[], float]:
    """Every span takes one second."""
    ticks = itertools.count()
    return lambda: float(next(ticks))


def _bench(file: Path, plan: Plan) -> Bench:
    return Bench(
        file, Options(2, "portable"), plan, Silent(), _seconds(), EnergyMeter(()), _meter, Memory()
    )


def test_figures_follow_from_clock_and_limits(archive: Path) -> None:
    plan = Plan(prompts=(4, 9), contexts=(10, 6), decode=3, runs=2, batches=(1, 2))
    found = measure(_bench(archive, plan), [1, 2])
    assert set(found) == TOP
    json.dumps(found)
    assert [(each["threads"], each["prompt_tokens"]) for each in found["results"]] == [
        (1, 4), (1, 9), (2, 4), (2, 9),
    ]  # fmt: skip
    program = load(archive).archive.program
    for each in found["results"]:
        assert set(each) == PROMPT
        length = each["prompt_tokens"]
        assert each["ttft_s"] == {"median": 1, "min": 1, "max": 1}
        assert each["first_ttft_s"] == 1
        assert each["prefill_tokens_per_s"]["median"] == length
        assert each["decode_tokens_per_s"]["median"] == 3
        cost = prefill_cost(program.entries["prefill"], length, load(archive).chunk)
        assert each["prefill_of_int8_peak"] == pytest.approx(cost.int8_operations / INT8)
        assert each["prefill_of_f32_peak"] == pytest.approx(cost.f32_operations / F32)
        nbytes = run_cost(program.entries["decode"], Place(1, 1, length + 1)).memory_nbytes
        assert each["decode_nbytes_per_token"] == nbytes
        for phase in each["affinity"].values():
            assert len(phase["threads"]) == each["threads"]
            assert all(thread["ran_on"] for thread in phase["threads"])
        assert each["decode_of_read"] == pytest.approx(3 * nbytes / READ)
        assert each["decode_of_mapping"] == pytest.approx(3 * nbytes / MAPPING)
        assert each["decode_joules_per_token"] is None
    depths = [(each["threads"], each["context_tokens"]) for each in found["contexts"]]
    assert depths == [(1, 6), (1, 10), (2, 6), (2, 10)]
    assert all(set(each) == {"threads", "context_tokens", *DECODE} for each in found["contexts"])
    assert [(each["threads"], each["rows"]) for each in found["batches"]] == [
        (1, 1), (1, 2), (2, 1), (2, 2),
    ]  # fmt: skip
    assert [set(each) for each in found["limits"]] == [LIMITS, LIMITS]
    text = as_text(found)
    for words in (
        "TTFT",
        "of memory",
        "of int8 peak",
        "context",
        "batch",
        "no counters",
        "resident",
    ):
        assert words in text


def test_one_thread_is_measured_beside_several(archive: Path) -> None:
    found = measure(_bench(archive, Plan(prompts=(4,), decode=2, runs=1)), [2])
    assert [each["threads"] for each in found["limits"]] == [1, 2]


def test_without_limits_there_are_no_fractions(archive: Path) -> None:
    found = measure(_bench(archive, Plan(prompts=(4,), decode=2, runs=1, limits=False)), [1])
    assert found["limits"] == []
    assert found["results"][0]["decode_of_read"] is None
    assert found["results"][0]["prefill_of_int8_peak"] is None
    assert "of memory" not in as_text(found)


def test_energy_of_a_token(archive: Path, tmp_path: Path) -> None:
    counter = tmp_path / "energy_uj"

    @dataclass(frozen=True)
    class Growing(Counter):
        """12 J at each reading."""

        def read(self) -> int:
            value = int(self.path.read_text()) + 12_000_000
            self.path.write_text(str(value))
            return value

    counter.write_text("0")
    plan = Plan(prompts=(4,), decode=3, runs=2, limits=False)
    bench = replace(_bench(archive, plan), energy=EnergyMeter((Growing(counter, 10**12),)))
    (found,) = (result := measure(bench, [1]))["results"]
    assert found["prefill_joules_per_token"] == pytest.approx(3)
    assert found["decode_joules_per_token"] == pytest.approx(4)
    assert "3 J" in as_text(result)
    assert "no counters" not in as_text(result)


def test_a_cold_start(archive: Path) -> None:
    found = measure(_bench(archive, Plan(prompts=(4,), decode=2, runs=1, cold=True)), [1])
    assert found["cold"] == {"load_s": 1, "prompt_tokens": 4, "first_s": 1}
    assert "cold" in as_text(found)


def test_usual_lengths_are_those_that_fit(archive: Path) -> None:
    found = measure(_bench(archive, Plan(decode=2, runs=1, limits=False)), [1])
    assert [each["prompt_tokens"] for each in found["results"]] == [16, 96]


@pytest.mark.parametrize("plan", [Plan(prompts=(600,)), Plan(prompts=(4,), contexts=(600,))])
def test_what_does_not_fit_is_refused_before_anything_runs(archive: Path, plan: Plan) -> None:
    with pytest.raises(InputError, match="context"):
        measure(_bench(archive, plan), [1])


def test_memory_of_limits_does_not_count(tmp_path: Path) -> None:
    status, clear = tmp_path / "status", tmp_path / "clear_refs"
    clear.write_text("")

    def holds(now: int, most: int) -> None:
        status.write_text(f"VmRSS: {now} kB\nVmHWM: {most} kB\n")

    watched = Memory(status, clear)
    holds(10, 20)
    watched.aside(lambda: holds(10, 500))
    assert clear.read_text() == "5"
    holds(12, 15)
    assert watched.now() == {"rss_nbytes": 12 * 1024, "peak_rss_nbytes": 20 * 1024}
    lost = Memory(status, tmp_path / "no" / "clear_refs")
    lost.aside(lambda: None)
    assert lost.now() is None
    assert Memory(tmp_path / "nothing").now() is None


def test_the_processor(tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text("flags : x\nmodel name\t: Some CPU 9\nmodel name : b\n")
    assert processor(tmp_path / "cpuinfo") == "Some CPU 9"
    assert processor(tmp_path / "none")


@pytest.mark.parametrize("by_command", [False, True])
def test_a_profile(archive: Path, by_command: bool) -> None:
    bench = _bench(archive, Plan(prompts=(4, 20), decode=2, runs=2))
    found = profile_bench(bench, [1, 2], by_command=by_command)
    json.dumps(found)
    program = load(archive).archive.program
    assert [(each["threads"], each["prompt_tokens"]) for each in found["profiles"]] == [
        (1, 4), (1, 20), (2, 4), (2, 20),
    ]  # fmt: skip
    for profile in found["profiles"]:
        for phase in profile["phases"]:
            lines = phase["lines"]
            assert all(set(line) == LINE for line in lines)
            assert sum(line["share"] for line in lines) == pytest.approx(1)
            assert sum(line["seconds"] for line in lines) == pytest.approx(phase["seconds"])
            assert all(0 <= line["waiting"] <= 1 for line in lines)
            if by_command and phase["entry"] == "decode":
                assert len(lines) == len(program.entries["decode"].commands)
    prefill, decode = found["profiles"][0]["phases"]
    assert (prefill["entry"], prefill["runs"]) == ("prefill", 2)
    assert (decode["entry"], decode["runs"]) == ("decode", 4)
    cost = prefill_cost(program.entries["prefill"], 4, 4)
    assert sum(each["int8_operations"] for each in prefill["lines"]) == pytest.approx(
        cost.int8_operations
    )
    text = profile_text(found)
    for words in ("prefill of 20 tokens", "decode after a prompt of 4", "GB/s", "GOPS", "waiting"):
        assert words in text


def test_a_profile_counts_the_chunks_of_a_prompt_together(archives: Archives) -> None:
    file = archives("hearthside", weights="int4")
    model = load(file)
    tokens = 2 * model.chunk + 20
    bench = _bench(file, Plan(prompts=(tokens,), decode=2, runs=1))
    prefill, decode = profile_bench(bench, [2], by_command=True)["profiles"][0]["phases"]
    assert (prefill["runs"], decode["runs"]) == (1, 2)
    calls = {each["op"]: each["calls"] for each in prefill["lines"]}
    head = f"linear {model.vocab} x"
    assert [count for op, count in calls.items() if op.startswith(head)] == [1]
    assert max(calls.values()) == 3
    cost = prefill_cost(model.archive.program.entries["prefill"], tokens, model.chunk)
    counted = sum(line["int8_operations"] for line in prefill["lines"])
    assert counted == pytest.approx(cost.int8_operations)


def test_the_longer_of_reading_and_computing_is_the_limit() -> None:
    limits = limits_of([SAMPLE])
    reads = Line("a", "k", 1, 2.0, 0, Cost(int(READ), 0, 10**9, int(INT8) // 2, 0))
    assert of_limit(reads, limits) == pytest.approx(0.5)
    computes = replace(reads, cost=Cost(0, 10, 0, int(INT8), int(F32)))
    assert of_limit(computes, limits) == pytest.approx(1.0)
    assert of_limit(reads, None) is None


def test_the_command(archive: Path, capsys: Capture) -> None:
    command = ("bench", archive, "--prompts", "4,9", "--decode", 3, "--runs", 1, "--threads", "1,2")
    assert hearth(*command, "--json", "--contexts", 5) == 0
    found: Found = json.loads(capsys.readouterr().out)
    assert set(found) == TOP
    assert found["results"][0]["decode_of_read"] > 0
    assert found["peak_rss_nbytes"] >= found["results"][0]["rss_nbytes"] > 0
    assert hearth(*command, "--no-limits", "--batch", 2, "--cold") == 0
    assert "TTFT" in capsys.readouterr().out
    assert hearth(*command, "--profile", "--json") == 0
    assert len(json.loads(capsys.readouterr().out)["profiles"]) == 4
    assert hearth(*command, "--profile-commands", "--no-limits") == 0
    assert "waiting" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("option", "code"),
    [
        (("--prompts", "0"), "arguments.bench"),
        (("--contexts", "4,x"), "arguments.bench"),
        (("--contexts", "-1"), "arguments.bench"),
        (("--batch", ""), "arguments.bench"),
        (("--decode", "0"), "arguments.bench"),
        (("--runs", "0"), "arguments.bench"),
        (("--threads", "two"), "arguments.bench"),
        (("--threads", "0"), "arguments.threads"),
        (("--threads", "1,9999"), "arguments.threads"),
        (("--contexts", "600"), "input.context_full"),
    ],
)
def test_refusals(archive: Path, capsys: Capture, option: tuple[str, str], code: str) -> None:
    assert hearth("bench", archive, *option) in (UsageError.exit_code, InputError.exit_code)
    assert f"[{code}]" in capsys.readouterr().err
