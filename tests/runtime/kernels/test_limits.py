"""The loops that measure a machine's limits: rates of every pass, bad arguments refused, memory given back."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from support.amx import amx

from hearth.runtime import native

SECONDS = 0.005
STATUS = Path("/proc/self/status")


def _plausible(rates: list[float]) -> bool:
    return len(rates) >= 3 and all(math.isfinite(rate) and rate > 0 for rate in rates)


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("isa", native.isas())
@pytest.mark.parametrize("kind", ["int8", "f32"])
def test_peaks(kind: str, isa: str, threads: int) -> None:
    assert _plausible(native.measure_peak(kind, threads, isa, SECONDS))


def test_the_peak_of_tiles() -> None:
    with amx():
        assert _plausible(native.measure_peak("int8", 2, "amx", SECONDS))
        assert _plausible(native.measure_peak("f32", 2, "amx", SECONDS))


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_reads(threads: int) -> None:
    assert _plausible(native.measure_read(1 << 20, threads, SECONDS))
    memory = np.ones(100_000, np.uint8)
    assert _plausible(native.measure_read_of(memory[3:], threads, SECONDS))


def test_memory_is_given_back() -> None:
    if not STATUS.exists():
        pytest.skip("no /proc/self/status")

    def resident() -> int:
        line = next(row for row in STATUS.read_text().splitlines() if row.startswith("VmRSS"))
        return int(line.split()[1]) * 1024

    native.measure_read(1 << 20, 1, SECONDS)
    before = resident()
    native.measure_read(64 << 20, 2, SECONDS)
    assert resident() < before + (32 << 20)


def test_a_pass_costs_no_more_than_asked_for() -> None:
    few = native.measure_read(1 << 20, 1, 1e-9)
    assert len(few) == 3


@pytest.mark.parametrize("threads", [-1, 0, 1025])
def test_threads_out_of_range(threads: int) -> None:
    with pytest.raises(ValueError, match="threads"):
        native.measure_read(1 << 20, threads, SECONDS)
    with pytest.raises(ValueError, match="threads"):
        native.measure_peak("int8", threads, "portable", SECONDS)


@pytest.mark.parametrize("seconds", [0, -1, 61, math.nan, math.inf])
def test_seconds_out_of_range(seconds: float) -> None:
    with pytest.raises(ValueError, match="seconds"):
        native.measure_peak("f32", 1, "portable", seconds)


def test_other_bad_arguments() -> None:
    with pytest.raises(ValueError, match="kind"):
        native.measure_peak("int3", 1, "portable", SECONDS)
    with pytest.raises(ValueError, match="ISA"):
        native.measure_peak("int8", 1, "abacus", SECONDS)
    for nbytes in (-1, 0, 1 << 50):
        with pytest.raises(ValueError, match="nbytes"):
            native.measure_read(nbytes, 1, SECONDS)
    with pytest.raises(ValueError, match="memory"):
        native.measure_read_of(np.zeros(100, np.uint8), 1, SECONDS)
    with pytest.raises(TypeError):
        native.measure_read_of(np.zeros(100, np.float32), 1, SECONDS)  # type: ignore[arg-type]
