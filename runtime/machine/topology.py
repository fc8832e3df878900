"""Which logical cores are worth a thread: big ones where cores differ, and one of each that share a physical core."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path

DEVICES = Path("/sys/devices")
MOST_CORES = 1024  # the kernel's cpu_set_t

Strength = Callable[[Path, int], float | None]


def best_cores(allowed: Collection[int], devices: Path = DEVICES) -> tuple[int, ...]:
    """One logical core of each big physical core among those allowed, in order of number; at least one of them."""
    return one_of_each(big_cores(allowed, devices), devices)


def big_cores(allowed: Collection[int], devices: Path = DEVICES) -> tuple[int, ...]:
    """Those that are not much weaker than the strongest; all of them where the system does not tell them apart."""
    cores = sorted(allowed)
    for strength, least in STRENGTHS:
        known = {core: found for core in cores if (found := strength(devices, core)) is not None}
        if len(known) == len(cores) and len(set(known.values())) > 1:
            return tuple(core for core in cores if known[core] >= least * max(known.values()))
    return tuple(cores)


def one_of_each(cores: Collection[int], devices: Path = DEVICES) -> tuple[int, ...]:
    """The first of those that are threads of one physical core."""
    found: list[int] = []
    taken: set[int] = set()
    for core in sorted(cores):
        if core not in taken:
            found.append(core)
            taken |= _siblings(devices, core)
    return tuple(found)


def core_list(text: str) -> tuple[int, ...]:
    """'0-2,8' -> (0, 1, 2, 8), as the kernel writes lists of cores; ValueError for anything else."""
    cores: set[int] = set()
    for part in text.strip().split(","):
        first, dash, last = part.partition("-")
        start, stop = _core(first), _core(last if dash else first)
        if stop < start:
            raise ValueError(f"{part!r} goes backwards")
        cores.update(range(start, stop + 1))
    return tuple(sorted(cores))


def _core(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise ValueError(f"{text!r} is no number of a core")
    if len(text) > 4 or int(text) >= MOST_CORES:
        raise ValueError(f"there is no core {text[:20]}")
    return int(text)


def _capacity(devices: Path, core: int) -> float | None:
    """On Arm, of 1024."""
    return _number(devices / f"system/cpu/cpu{core}/cpu_capacity")


def _performance(devices: Path, core: int) -> float | None:
    """On x86 with two kinds of cores: 1 for a performance core, else 0."""
    performance = _read_list(devices / "cpu_core/cpus")
    return None if not performance else float(core in performance)


def _frequency(devices: Path, core: int) -> float | None:
    """The highest, in kHz."""
    return _number(devices / f"system/cpu/cpu{core}/cpufreq/cpuinfo_max_freq")


# What tells cores apart, the best word first, and the share of the strongest that makes a core a big one.
STRENGTHS: tuple[tuple[Strength, float], ...] = (
    (_capacity, 0.5),
    (_performance, 1.0),
    (_frequency, 0.8),
)


def _siblings(devices: Path, core: int) -> set[int]:
    place = devices / f"system/cpu/cpu{core}/topology/thread_siblings_list"
    return {core, *_read_list(place)}


def _read_list(place: Path) -> tuple[int, ...]:
    try:
        return core_list(place.read_text())
    except (OSError, ValueError):
        return ()


def _number(place: Path) -> float | None:
    try:
        return float(place.read_text())
    except (OSError, ValueError):
        return None
