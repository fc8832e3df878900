"""Energy counters of the processor's packages (RAPL), where the machine shows them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

ROOT = Path("/sys/class/powercap")
WHOLE_PLATFORM = "psys"  # holds the packages' energy once more


@dataclass(frozen=True)
class Counter:
    """One package: microjoules that grow and begin again at 0 after `range_uj`."""

    path: Path
    range_uj: int

    def read(self) -> int:
        return int(self.path.read_text())


@dataclass(frozen=True)
class EnergyMeter:
    """All packages together; without counters there is nothing to tell."""

    counters: tuple[Counter, ...]

    def read(self) -> tuple[int, ...]:
        """Every counter now; a counter is updated about once a millisecond."""
        return tuple(counter.read() for counter in self.counters)

    def joules(self, before: tuple[int, ...], after: tuple[int, ...]) -> float | None:
        """What was used between two readings, at most one turn of a counter apart; None without counters."""
        if not self.counters:
            return None
        turns = (
            (end - begin) % (counter.range_uj + 1)
            for counter, begin, end in zip(self.counters, before, after, strict=True)
        )
        return sum(turns) / 1e6


def energy_meter(root: Path = ROOT) -> EnergyMeter:
    """The packages whose counters this process may read: zones such as intel-rapl:0, not the parts within them."""
    zones = sorted(path for path in root.glob("*:*") if path.name.count(":") == 1)
    found = (_counter(zone) for zone in zones)
    return EnergyMeter(tuple(counter for counter in found if counter is not None))


def _counter(zone: Path) -> Counter | None:
    try:
        if (zone / "name").read_text().strip() == WHOLE_PLATFORM:
            return None
        counter = Counter(zone / "energy_uj", int((zone / "max_energy_range_uj").read_text()))
        counter.read()
    except (OSError, ValueError):
        return None
    return counter
