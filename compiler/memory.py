"""Whether this machine has the memory that a compile will take, and what its limits leave."""

from __future__ import annotations

import ctypes
import gc
import resource
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hearth.schemas.errors import ResourceError

PROC = Path("/proc")
CGROUPS = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class Need:
    """Bytes that one part of a compile adds to what is resident before: its own, and at most `mapped` pages of files,
    which the system may take back at any time."""

    part: str
    own: int
    mapped: int = 0


@dataclass(frozen=True)
class Prediction:
    """What a compile will take: the parts that run one after the other, over what is resident `now`.

    `before` is the highest that this process has been. `seconds` is the time that a long part takes, where it is known.
    """

    now: int
    needs: tuple[Need, ...]
    before: int = 0
    seconds: float | None = None

    @property
    def peak(self) -> int:
        """Resident bytes at the worst moment."""
        return max(self.before, self.now + max(need.own + need.mapped for need in self.needs))

    @property
    def most(self) -> Need:
        """The part that needs most which cannot be taken back."""
        return max(self.needs, key=lambda need: need.own)

    @property
    def mapped(self) -> int:
        """Bytes of files, at most."""
        return max(need.mapped for need in self.needs)


def predicted(needs: Sequence[Need], seconds: float | None = None) -> Prediction:
    """Of parts that are to run from now on."""
    settle()
    return Prediction(status_nbytes("VmRSS"), tuple(needs), status_nbytes("VmHWM"), seconds)


def settle() -> None:
    """Lets go of all that a part of a compile has used, so that the next one adds to no more than what is kept."""
    gc.collect()
    release()


def release() -> None:
    """Gives the system back what was freed; the allocator keeps it for as long as something lies above."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's alone
    if trim is not None:
        trim(0)


def require(prediction: Prediction) -> None:
    """Refuses at once what the machine cannot hold: ResourceError resource.memory."""
    most = prediction.most
    for limit, free in free_nbytes().items():
        if most.own > free:
            raise ResourceError(
                "resource.memory",
                f"compiling needs {_mib(most.own)} more memory ({most.part}), {limit} leaves {_mib(free)}",
                expected=f"room for a peak of {_mib(prediction.peak)}",
                remedy="close other programs or raise the limit",
            )


def free_nbytes() -> dict[str, int]:
    """What each limit on this process leaves, by the limit's name."""
    found = {"the machine": available_nbytes()}
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    if soft != resource.RLIM_INFINITY:
        found["the address-space limit (ulimit -v)"] = soft - status_nbytes("VmSize")
    group = cgroup_free_nbytes()
    if group is not None:
        found["the control group"] = group
    return found


def available_nbytes() -> int:
    """MemAvailable of /proc/meminfo."""
    return _field(PROC / "meminfo", "MemAvailable")


def status_nbytes(name: str) -> int:
    """A size from /proc/self/status: VmRSS (now), VmHWM (the peak so far), VmSize (address space)."""
    return _field(PROC / "self/status", name)


def _field(path: Path, name: str) -> int:
    for line in path.read_text().splitlines():
        key, _, rest = line.partition(":")
        if key == name:
            return int(rest.split()[0]) * 1024
    raise KeyError(f"{path} has no {name}")


def cgroup_free_nbytes(root: Path = CGROUPS, own: Path = PROC / "self/cgroup") -> int | None:
    """What the tightest control group above this process leaves; None where none limits memory."""
    found = [
        free for folder in _cgroup_folders(root, own) if (free := _group_free(folder)) is not None
    ]
    return min(found, default=None)


def _cgroup_folders(root: Path, own: Path) -> list[Path]:
    """This process's groups and all above them (version 2, and the memory controller of version 1)."""
    folders = {root, root / "memory"}
    try:
        lines = own.read_text().splitlines()
    except OSError:
        lines = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers in ("", "memory"):
            top = root / controllers if controllers else root
            below = top / path.lstrip("/")
            folders.update(
                folder for folder in (below, *below.parents) if folder.is_relative_to(top)
            )
    return sorted(folders)


def _group_free(folder: Path) -> int | None:
    for limit_name, used_name in (
        ("memory.max", "memory.current"),
        ("memory.limit_in_bytes", "memory.usage_in_bytes"),
    ):
        try:
            limit = (folder / limit_name).read_text().strip()
            used = int((folder / used_name).read_text())
        except (OSError, ValueError):
            continue
        if limit.isdigit():
            return int(limit) - used + _reclaimable(folder)
    return None


def _reclaimable(folder: Path) -> int:
    """Cached file pages, which count as used but give way."""
    try:
        lines = (folder / "memory.stat").read_text().splitlines()
    except OSError:
        return 0
    fields = dict(line.split() for line in lines)
    return int(fields.get("inactive_file", 0)) + int(fields.get("active_file", 0))


def _mib(nbytes: int) -> str:
    return f"{nbytes / 2**20:,.0f} MiB"
