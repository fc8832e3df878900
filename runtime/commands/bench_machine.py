"""The machine that a benchmark runs on: its processor, its limits, its memory, its page cache."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hearth.runtime.commands.bench_subjects import Found, Subject
from hearth.runtime.machine.cores import available_cores
from hearth.runtime.machine.energy import EnergyMeter
from hearth.runtime.machine.limits import Limits, MachineMeter, buffer_nbytes, last_cache

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
CPUINFO = Path("/proc/cpuinfo")


@dataclass
class Memory:
    """Resident memory of the model's own work: what limits take in between is kept out of the highest value."""

    status: Path = STATUS
    clear: Path = CLEAR
    peak: int = 0
    known: bool = True

    def now(self) -> dict[str, int] | None:
        """Bytes now and at most; None where the system does not say."""
        found = memory(self.status)
        if found is None or not self.known:
            return None
        self.peak = max(self.peak, found["peak_rss_nbytes"])
        return {"rss_nbytes": found["rss_nbytes"], "peak_rss_nbytes": self.peak}

    def aside(self, work: Callable[[], None]) -> None:
        """Do something whose memory does not count."""
        self.now()
        work()
        try:
            self.clear.write_text("5")  # the highest value begins anew
        except OSError:
            self.known = False


def memory(status: Path = STATUS) -> dict[str, int] | None:
    """Resident memory now and at its highest, in bytes; None where the system does not say."""
    try:
        lines = status.read_text().splitlines()
    except OSError:
        return None
    fields = dict(line.split(":", 1) for line in lines if ":" in line)
    names = {"rss_nbytes": "VmRSS", "peak_rss_nbytes": "VmHWM"}
    return {name: int(fields[field].split()[0]) * 1024 for name, field in names.items()}


def evict(file: Path) -> None:
    """Ask the system to drop the file's pages; those that some process has mapped stay."""
    descriptor = os.open(file, os.O_RDONLY)
    try:
        if hasattr(os, "posix_fadvise"):
            os.fdatasync(descriptor)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)


def machine_meter(measured: Subject, threads: int) -> MachineMeter:
    """Of this machine, with the instructions that the model uses, over the model's own weights."""
    model = measured.model
    weights = np.frombuffer(model.archive.weights(), np.uint8)
    return MachineMeter(threads, model.isa, weights, buffer_nbytes())


def limits_found(threads: int, limits: Limits) -> Found:
    """As JSON has them."""
    return {
        "threads": threads,
        "read_bytes_per_s": limits.read.as_dict(),
        "mapping_bytes_per_s": limits.mapping.as_dict(),
        "int8_operations_per_s": limits.int8.as_dict(),
        "f32_operations_per_s": limits.f32.as_dict(),
    }


def machine(energy: EnergyMeter) -> Found:
    """What a reader of the figures asks first."""
    return {
        "processor": processor(),
        "cores": available_cores(),
        "last_cache_nbytes": last_cache(),
        "energy_counters": len(energy.counters),
    }


def processor(path: Path = CPUINFO) -> str:
    """Its name as the system has it."""
    try:
        lines = path.read_text().splitlines()
    except OSError:
        lines = []
    names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())
