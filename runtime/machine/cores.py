"""How many threads this process should use: the cores of its affinity, and the CPU quota of its control group."""

from __future__ import annotations

from pathlib import Path

from hearth.runtime.machine.affinity import usable_cores
from hearth.runtime.machine.topology import DEVICES, best_cores

ROOT = Path("/sys/fs/cgroup")
OWN_GROUP = Path("/proc/self/cgroup")


def available_cores(root: Path = ROOT, own_group: Path = OWN_GROUP, devices: Path = DEVICES) -> int:
    """At least 1: one for each big physical core; a quota of 1.5 counts as 2 (the threads share what there is)."""
    cores = len(best_cores(usable_cores(), devices))
    quotas = [quota for group in _groups(root, own_group) if (quota := _quota(group)) is not None]
    return max(1, min(cores, *(-int(-quota // 1) for quota in quotas)) if quotas else cores)


def _groups(root: Path, own_group: Path) -> list[Path]:
    """The directories whose limits hold for this process, from its own to the root."""
    try:
        lines = own_group.read_text().splitlines()
    except OSError:
        lines = []
    found = [root]
    for line in lines:
        _, controllers, name = line.split(":", 2)
        base = root if not controllers else root / "cpu"
        if not controllers or "cpu" in controllers.split(","):
            place = base / name.lstrip("/")
            found += [place, *(parent for parent in place.parents if parent.is_relative_to(base))]
    return found


def _quota(group: Path) -> float | None:
    """Cores' worth of time per period: version 2 (cpu.max), then version 1."""
    try:
        quota, period = (group / "cpu.max").read_text().split()
    except (OSError, ValueError):
        try:
            quota = (group / "cpu.cfs_quota_us").read_text()
            period = (group / "cpu.cfs_period_us").read_text()
        except OSError:
            return None
    try:
        share = float(quota) / float(period)
    except (ValueError, ZeroDivisionError):  # "max"
        return None
    return share if share > 0 else None
