"""The machine's own limits, measured between runs of a model: what memory gives, what the registers compute."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from hearth.runtime import native
from hearth.runtime.machine.spread import Spread, spread_of

CACHE = Path("/sys/devices/system/cpu/cpu0/cache")
MEMINFO = Path("/proc/meminfo")
UNKNOWN_CACHE = 32 << 20
LEAST, MOST = 256 << 20, 1 << 30


@dataclass(frozen=True)
class Sample:
    """One look at the machine, rates per second of every pass: bytes read, operations made."""

    read: tuple[float, ...]
    mapping: tuple[float, ...]
    int8: tuple[float, ...]
    f32: tuple[float, ...]


class Meter(Protocol):
    """Measures all limits once, for about as long as it was told."""

    def sample(self) -> Sample: ...


@dataclass(frozen=True)
class MachineMeter:
    """`mapping` is the archive's own; memory of four last-level caches is read beside it."""

    threads: int
    isa: str
    mapping: NDArray[np.uint8]
    nbytes: int
    seconds: float = 0.04  # of each limit

    def sample(self) -> Sample:
        """Memory for reading is taken and given back within."""
        return Sample(
            tuple(native.measure_read(self.nbytes, self.threads, self.seconds)),
            tuple(native.measure_read_of(self.mapping, self.threads, self.seconds)),
            tuple(native.measure_peak("int8", self.threads, self.isa, self.seconds / 2)),
            tuple(native.measure_peak("f32", self.threads, self.isa, self.seconds / 2)),
        )


@dataclass(frozen=True)
class Limits:
    """Bytes and operations per second of several samples."""

    read: Spread
    mapping: Spread
    int8: Spread
    f32: Spread


@dataclass
class Bracket:
    """Samples taken before, between and after runs, so that each run has one on either side."""

    meter: Meter
    samples: list[Sample] = field(default_factory=list)

    def take(self) -> None:
        """One more."""
        self.samples.append(self.meter.sample())

    def limits(self) -> Limits:
        """Over all samples."""
        return limits_of(self.samples)

    def beside(self, run: int) -> Limits:
        """Of the two samples that surround a run (the first one is run 0)."""
        return limits_of(self.samples[run : run + 2])


def limits_of(samples: list[Sample]) -> Limits:
    """Every pass of every sample counts alike."""
    return Limits(
        spread_of(rate for sample in samples for rate in sample.read),
        spread_of(rate for sample in samples for rate in sample.mapping),
        spread_of(rate for sample in samples for rate in sample.int8),
        spread_of(rate for sample in samples for rate in sample.f32),
    )


def buffer_nbytes(cache: Path = CACHE, meminfo: Path = MEMINFO) -> int:
    """Four times the last-level cache, within bounds and a quarter of the memory that is free."""
    wanted = min(max(4 * last_cache(cache), LEAST), MOST)
    free = _free_memory(meminfo)
    return wanted if free is None else max(min(wanted, free // 4), 1 << 20)


def last_cache(root: Path = CACHE) -> int:
    """Bytes of the largest cache that the first core sees; a usual size where the system does not say."""
    return max((_size(each) for each in root.glob("index*/size")), default=0) or UNKNOWN_CACHE


def _size(path: Path) -> int:
    """'32768K' -> bytes"""
    units = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
    try:
        text = path.read_text().strip()
        return int(text[:-1]) * units[text[-1]] if text[-1:] in units else int(text)
    except (OSError, ValueError):
        return 0


def _free_memory(path: Path) -> int | None:
    try:
        lines = path.read_text().splitlines()
        fields = dict(line.split(":", 1) for line in lines if ":" in line)
        return int(fields["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return None
