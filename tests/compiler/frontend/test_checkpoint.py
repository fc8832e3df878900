"""One file or shards with an index; what disagrees is refused by name; the sample hash tells sources apart."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from support.checkpoints import LLAMA, random_tensors, safetensors_bytes, write_checkpoint

from hearth.compiler.frontend.checkpoint import open_checkpoint
from hearth.compiler.ir.tensors import read
from hearth.schemas.errors import CheckpointError

INDEX = "model.safetensors.index.json"
FIRST = "model-00001-of-00003.safetensors"


@pytest.mark.parametrize("shards", [1, 2, 3])
@pytest.mark.parametrize("dtype", ["F32", "BF16"])
def test_every_tensor_is_found(shards: int, dtype: str, tmp_path: Path) -> None:
    tensors = random_tensors(LLAMA)
    write_checkpoint(tmp_path, LLAMA, tensors, dtype=dtype, shards=shards)
    checkpoint = open_checkpoint(tmp_path)
    assert set(checkpoint.owner) == set(tensors)
    assert len(checkpoint.shards) == shards
    bound = 0.0 if dtype == "F32" else 2.0**-8
    for name, values in tensors.items():
        assert np.all(np.abs(read(checkpoint.source(name)) - values) <= bound * np.abs(values))


def _index(directory: Path) -> dict[str, dict[str, str]]:
    values: dict[str, dict[str, str]] = json.loads((directory / INDEX).read_text())
    return values


def _edit(directory: Path, change: Callable[[dict[str, str]], object]) -> None:
    index = _index(directory)
    change(index["weight_map"])
    (directory / INDEX).write_text(json.dumps(index))


def _no_shard(directory: Path) -> None:
    (directory / FIRST).unlink()


def _ghost(directory: Path) -> None:
    _edit(directory, lambda mapping: mapping.update({"ghost.weight": FIRST}))


def _unlisted(directory: Path) -> None:
    _edit(directory, lambda mapping: mapping.pop("model.embed_tokens.weight"))


def _twice(directory: Path) -> None:
    extra = random_tensors(LLAMA)["model.norm.weight"]
    (directory / "extra.safetensors").write_bytes(
        safetensors_bytes({"model.norm.weight": extra, "x": extra})
    )
    _edit(directory, lambda mapping: mapping.update({"x": "extra.safetensors"}))


def _outside(directory: Path) -> None:
    _edit(directory, lambda mapping: mapping.update({"x": "../model.safetensors"}))


def _number(directory: Path) -> None:
    (directory / INDEX).write_text('{"weight_map": {"x": 3}}')


def _nul(directory: Path) -> None:
    _edit(directory, lambda mapping: mapping.update({"x": "a\0.safetensors"}))


def _half(directory: Path) -> None:
    (directory / INDEX).write_text('{"weight_map": {"x": "\\ud800.safetensors"}}')


def _no_map(directory: Path) -> None:
    (directory / INDEX).write_text('{"metadata": {}}')


def _not_json(directory: Path) -> None:
    (directory / INDEX).write_text("{")


def _a_list(directory: Path) -> None:
    (directory / INDEX).write_text("[]")


REFUSED = {
    "a shard is missing": (_no_shard, "checkpoint.shard_missing", FIRST),
    "a tensor is not where the index says": (_ghost, "checkpoint.tensor_missing", "ghost.weight"),
    "a tensor is not in the index": (
        _unlisted,
        "checkpoint.index_mismatch",
        "model.embed_tokens.weight",
    ),
    "a tensor lies in two shards": (_twice, "checkpoint.index_mismatch", "model.norm.weight"),
    "a shard lies elsewhere": (_outside, "checkpoint.index_invalid", "../model.safetensors"),
    "a shard is a number": (_number, "checkpoint.index_invalid", "'x'"),
    "a shard's name holds a NUL": (_nul, "checkpoint.index_invalid", "'x'"),
    "a shard's name is no text": (_half, "checkpoint.index_invalid", "'x'"),
    "no weight_map": (_no_map, "checkpoint.index_invalid", "weight_map"),
    "the index is not JSON": (_not_json, "checkpoint.json_invalid", INDEX),
    "the index is a list": (_a_list, "checkpoint.json_invalid", "list"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_bad_index_is_refused(case: str, tmp_path: Path) -> None:
    spoil, code, named = REFUSED[case]
    write_checkpoint(tmp_path, shards=3)
    spoil(tmp_path)
    with pytest.raises(CheckpointError) as caught:
        open_checkpoint(tmp_path)
    assert caught.value.code == code
    assert named in str(caught.value)


def test_no_weights(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no weights") as caught:
        open_checkpoint(tmp_path)
    assert caught.value.code == "checkpoint.weights_missing"
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(CheckpointError, match="save_pretrained"):
        open_checkpoint(tmp_path)


def _hash_after(directory: Path, name: str | None, at: int = 0) -> bytes:
    tensors = random_tensors(LLAMA)
    if name is not None:
        tensors[name].reshape(-1)[at] += 1
    return open_checkpoint(write_checkpoint(directory, LLAMA, tensors)).sample_hash()


def test_the_sample_hash(tmp_path: Path) -> None:
    plain = _hash_after(tmp_path / "a", None)
    assert plain == _hash_after(tmp_path / "b", None)
    for number, name in enumerate(random_tensors(LLAMA)):
        for at in (0, -1):
            assert plain != _hash_after(tmp_path / f"{number}{at}", name, at)
    other_shards = write_checkpoint(tmp_path / "s", LLAMA, random_tensors(LLAMA), shards=2)
    assert plain != open_checkpoint(other_shards).sample_hash()
