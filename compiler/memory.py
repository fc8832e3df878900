"""How much memory a compile will take, by formula, and whether this machine has it.

Weights are read, quantised and packed batch by batch (lower/blocks.py), so the peak is what the process
holds already, plus the buffers of the largest batch.
"""

from __future__ import annotations

import resource
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from hearth.compiler.lower import PackedTensor
from hearth.compiler.lower.blocks import CHANNELS, batches
from hearth.schemas.commands import Layout
from hearth.schemas.errors import ResourceError

# Bytes alive per weight of a batch at the worst moment. Floats: rows, rows in packed order, packed bytes, and the
# chunk before them. Quantised: the stored rows, as f32, scaled; or the rows, codes and the packed bytes.
FLOAT_BATCH_NBYTES = 16
QUANTISED_BATCH_NBYTES = 12
# Buffers of hashing and writing, and what the allocator keeps.
SLACK_NBYTES = 1 << 20

PROC = Path("/proc")
CGROUPS = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class Prediction:
    """Bytes: resident now, the largest streaming buffers, and the peak that follows."""

    now: int
    streaming: int

    @property
    def peak(self) -> int:
        return self.now + self.streaming


def predict(weights: Iterable[PackedTensor]) -> Prediction:
    """The peak of packing these weights, from what is resident now."""
    streaming = max((streaming_nbytes(tensor) for tensor in weights), default=0)
    return Prediction(status_nbytes("VmRSS"), streaming + SLACK_NBYTES)


def streaming_nbytes(tensor: PackedTensor) -> int:
    """Buffers of the largest batch of one tensor."""
    shape = tensor.shape
    if tensor.layout is None:
        return 3 * tensor.nbytes
    n, k = shape
    ranges = next(batches(n, k, tensor.paired))
    rows = sum(-(-(stop - start) // CHANNELS) * CHANNELS for start, stop in ranges)
    coded = tensor.layout in (Layout.Q8B16, Layout.Q4B16)
    each = QUANTISED_BATCH_NBYTES if coded else FLOAT_BATCH_NBYTES
    return rows * k * each + 8 * n


def require(prediction: Prediction) -> None:
    """Refuses at once what the machine cannot hold: ResourceError resource.memory."""
    more = prediction.streaming
    for limit, free in free_nbytes().items():
        if more > free:
            raise ResourceError(
                "resource.memory",
                f"compiling needs {_mib(more)} more memory, {limit} leaves {_mib(free)}",
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
