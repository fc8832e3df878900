"""Checkpoint: the tensors of a directory, in one safetensors file or in shards named by an index."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

from hearth.compiler.frontend.json_files import read_object
from hearth.compiler.frontend.safetensors import TensorSource
from hearth.compiler.frontend.shard import Shard, TensorEntry, open_file, read_into, read_shard
from hearth.schemas.errors import CheckpointError

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
OTHER_WEIGHTS = ("pytorch_model.bin", "pytorch_model.bin.index.json", "consolidated.safetensors")
SAMPLE = 4096  # bytes hashed at each end of a tensor


@dataclass(frozen=True)
class Checkpoint:
    """Shards in order of their names; `owner` tells the shard of each tensor."""

    directory: Path
    shards: tuple[Shard, ...]
    owner: Mapping[str, Shard]

    @property
    def files(self) -> tuple[Path, ...]:
        """The index, where there is one, and the shards."""
        index = self.directory / INDEX
        sharded = len(self.shards) > 1 or self.shards[0].path.name != SINGLE
        return (*((index,) if sharded else ()), *(shard.path for shard in self.shards))

    def source(self, name: str) -> TensorSource:
        """The tensor called `name`, which must exist."""
        shard = self.owner[name]
        return TensorSource(shard, shard.tensors[name])

    def sample_hash(self) -> bytes:
        """sha256 over each file's name, size and header, and the first and last 4 KiB of each tensor.

        It tells checkpoints apart at the cost of a few MB read; a change inside a large tensor that
        leaves both of its ends alone is not seen.
        """
        digest = hashlib.sha256()
        for shard in self.shards:
            digest.update(f"{shard.path.name}\0{shard.size}\0{len(shard.header)}\0".encode())
            digest.update(shard.header)
            with open_file(shard.path) as file:
                for entry in sorted(shard.tensors.values(), key=lambda entry: entry.start):
                    digest.update(_ends(file, entry))
        return digest.digest()


def _ends(file: FileIO, entry: TensorEntry) -> bytes:
    count = min(SAMPLE, entry.nbytes)
    buffer = bytearray(2 * count)
    view = memoryview(buffer)
    read_into(file, view[:count], entry.start)
    read_into(file, view[count:], entry.start + entry.nbytes - count)
    return bytes(buffer)


def open_checkpoint(directory: Path) -> Checkpoint:
    """Read and check all headers; no tensor is read."""
    if (directory / SINGLE).exists():
        shard = read_shard(directory / SINGLE)
        return Checkpoint(directory, (shard,), dict.fromkeys(shard.tensors, shard))
    if (directory / INDEX).exists():
        return _open_sharded(directory)
    others = [name for name in OTHER_WEIGHTS if (directory / name).exists()]
    raise CheckpointError(
        "checkpoint.weights_missing",
        f"only {', '.join(others)}" if others else "no weights",
        expected=f"{SINGLE} or {INDEX}",
        where=str(directory),
        remedy="convert with transformers: from_pretrained(DIR).save_pretrained(NEW_DIR)"
        if others
        else "",
    )


def _open_sharded(directory: Path) -> Checkpoint:
    mapping = _weight_map(directory / INDEX)
    shards = {name: read_shard(directory / name) for name in sorted(set(mapping.values()))}
    owner: dict[str, Shard] = {}
    for tensor, name in mapping.items():
        if tensor not in shards[name].tensors:
            raise CheckpointError(
                "checkpoint.tensor_missing",
                f"the index places tensor {tensor!r} in {name}, which does not hold it",
                where=str(directory / INDEX),
                remedy="index and shards are of different versions: fetch both again",
            )
        owner[tensor] = shards[name]
    for name, shard in shards.items():
        stray = [tensor for tensor in shard.tensors if mapping.get(tensor) != name]
        if stray:
            raise CheckpointError(
                "checkpoint.index_mismatch",
                f"tensor {stray[0]!r} lies in {name}, where the index does not place it",
                where=str(directory / INDEX),
                remedy="index and shards are of different versions: fetch both again",
            )
    return Checkpoint(directory, tuple(shards.values()), owner)


def _weight_map(path: Path) -> dict[str, str]:
    mapping = read_object(path).get("weight_map")
    if not isinstance(mapping, dict) or not mapping:
        raise CheckpointError(
            "checkpoint.index_invalid",
            "no weight_map",
            expected="an object of tensor names and file names",
            where=str(path),
        )
    for tensor, name in mapping.items():
        named = isinstance(name, str) and name.isprintable()  # no NUL, no half of a surrogate pair
        plain = named and Path(name).name == name and "\\" not in name
        if not plain or not name.endswith(".safetensors"):
            raise CheckpointError(
                "checkpoint.index_invalid",
                f"tensor {tensor!r} is placed in {name!r}",
                expected="the name of a .safetensors file in this directory",
                where=str(path),
            )
    return mapping
