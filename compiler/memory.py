"""How much memory a compile will take, by formula, and whether this machine has it.

Weights are read, quantised and packed batch by batch (lower/blocks.py), so packing holds what the process
holds already, plus the buffers of the largest batch. Then the golden vectors run: the archive is mapped, and the
engine has its arena and a short KV cache.
"""

from __future__ import annotations

import resource
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path

from hearth.compiler.check.blocks import LIMIT_NBYTES
from hearth.compiler.check.golden import BEYOND, FOLLOWING
from hearth.compiler.lower import Lowered, PackedTensor
from hearth.compiler.lower.blocks import CHANNELS, batches
from hearth.schemas.commands import KVScheme, Layout
from hearth.schemas.errors import ResourceError
from hearth.schemas.kv_layout import KVLayer, KVLayout
from hearth.schemas.program import Program, Rows

# Bytes alive per weight of a batch at the worst moment. Floats: rows, rows in packed order, packed bytes, and the
# chunk before them. Quantised: the stored rows, as f32, scaled; or the rows, codes and the packed bytes.
FLOAT_BATCH_NBYTES = 16
QUANTISED_BATCH_NBYTES = 12
# Buffers of hashing and writing, and what the allocator keeps.
SLACK_NBYTES = 2 << 20
# onnxruntime itself; and of the weights of a block two copies at a time: the rows, the model, its bytes and the engine
# are let go in turn.
ENGINE_NBYTES = 48 << 20
BLOCK_COPIES = 2
KV_NBYTES: Mapping[KVScheme, int] = {
    KVScheme.F32: 4,
    KVScheme.F16: 2,
    KVScheme.INT8: 1,
    KVScheme.INT8_STATIC: 1,
}
PAGE_NBYTES = 4096

PROC = Path("/proc")
CGROUPS = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class Prediction:
    """Bytes: resident now; what packing adds; what running the archive adds once packing is done.

    `mapped` are pages of the archive's own file on top of that, which the system may take back at any time. `seconds`
    is the time that a long part takes, where it is known.
    """

    now: int
    packing: int
    running: int = 0
    mapped: int = 0
    seconds: float | None = None

    @property
    def peak(self) -> int:
        """Resident bytes at the worst moment."""
        return self.now + max(self.packing, self.running + self.mapped)

    @property
    def held(self) -> int:
        """What is needed on top of now and cannot be taken back."""
        return max(self.packing, self.running)


def predict(lowered: Lowered, tokens: int = 0) -> Prediction:
    """The peak of packing this model and running its golden vectors, from what is resident now.

    `tokens` are those that source and archive are compared on; 0: no comparison.
    """
    packing = max((streaming_nbytes(tensor) for tensor in lowered.weights), default=0)
    return Prediction(
        status_nbytes("VmRSS"),
        packing + SLACK_NBYTES,
        running_nbytes(lowered.program, lowered.kv_layout)
        + checking_nbytes(lowered.program, lowered.weights, tokens)
        + SLACK_NBYTES,
        lowered.program.weights_nbytes,
    )


def running_nbytes(program: Program, kv: KVLayout) -> int:
    """What the engine holds while golden vectors run. A tokenizer was read before, to check it: that room is there."""
    longest = max((entry.max_rows[Rows.T] for entry in program.entries.values()), default=0)
    positions = longest + BEYOND + FOLLOWING
    written = sum(_written(layer, min(positions, layer.context)) for layer in kv.layers)
    return program.arena_nbytes + _touched_io(program) + written


def checking_nbytes(program: Program, weights: Iterable[PackedTensor], tokens: int) -> int:
    """What running the source block by block adds: onnxruntime, copies of one block, and both sides' logits."""
    if not tokens:
        return 0
    floats = sum(4 * prod(tensor.shape) for tensor in weights)
    columns = (port.columns for entry in program.entries.values() for port in entry.outputs)
    outputs = 2 * 4 * tokens * max(columns, default=0)
    return ENGINE_NBYTES + BLOCK_COPIES * min(floats, LIMIT_NBYTES) + outputs


def _touched_io(program: Program) -> int:
    """Of io only what a call fills: its inputs, all rows of a result, but one row of logits."""
    ports = [port for entry in program.entries.values() for port in (*entry.inputs, *entry.outputs)]
    one_row = (
        port.columns if port.name == "logits" else port.operand.nbytes // 4 for port in ports
    )
    return 4 * sum(one_row)


def _written(layer: KVLayer, positions: int) -> int:
    """Pages of one layer's cache that hold its first positions: each head's rows lie apart."""
    heads = 2 * layer.heads
    nbytes = positions * layer.head_dim * KV_NBYTES[layer.scheme]
    return min(heads * (nbytes + PAGE_NBYTES), layer.k.codes.nbytes + layer.v.codes.nbytes)


def streaming_nbytes(tensor: PackedTensor) -> int:
    """Buffers of the largest batch of one tensor."""
    shape = tensor.shape
    if tensor.layout is None:
        return 3 * tensor.nbytes
    n, k = shape
    ranges = next(batches(n, k, tensor.paired))
    rows = sum(-(-(stop - start) // CHANNELS) * CHANNELS for start, stop in ranges)
    coded = tensor.layout in (Layout.Q8B16, Layout.Q4B16) or tensor.layout.table_bits > 0
    each = QUANTISED_BATCH_NBYTES if coded else FLOAT_BATCH_NBYTES
    return rows * k * each + 8 * n


def require(prediction: Prediction) -> None:
    """Refuses at once what the machine cannot hold: ResourceError resource.memory."""
    more = prediction.held
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
