"""Checkpoints as GPTQ and AWQ tools write them, packed bit by bit, and the floats that they stand for."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from support.checkpoints import LLAMA, random_tensors

F32 = NDArray[np.float32]
AWQ_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)
SHAPE: Mapping[str, Any] = {
    **LLAMA,
    "hidden_size": 64,
    "intermediate_size": 96,
    "head_dim": 16,
}


@dataclass(frozen=True)
class Packing:
    """`group` 0: one per row. `offset` is what stored zero points are too small by."""

    method: str = "gptq"
    bits: int = 4
    group: int = 32
    offset: int = 1
    indexed: bool = True


def words_of(values: Sequence[int], bits: int) -> list[int]:
    """One whole number of all values, the first lowest, cut into words."""
    whole = sum(int(value) << (bits * place) for place, value in enumerate(values))
    count = len(values) * bits // 32
    return [(whole >> (32 * word)) & 0xFFFFFFFF for word in range(count)]


def packed_rows(matrix: NDArray[np.int64], bits: int) -> NDArray[np.int32]:
    """Each row in words."""
    rows = [words_of(row.tolist(), bits) for row in matrix]
    return np.array(rows, np.uint32).view(np.int32)


def awq_rows(matrix: NDArray[np.int64]) -> NDArray[np.int32]:
    """Each row in words of 8 nibbles, the channels in AWQ's order."""
    return packed_rows(matrix.reshape(len(matrix), -1, 8)[..., AWQ_ORDER].reshape(matrix.shape), 4)


def coded(
    rng: np.random.Generator, n: int, k: int, packing: Packing
) -> tuple[dict[str, NDArray[Any]], F32]:
    """The tensors of one linear by ending, and the weight [N, K] they stand for."""
    group = packing.group or k
    groups, most = k // group, (1 << packing.bits) - 1
    codes = rng.integers(0, most + 1, (n, k))
    zeros = rng.integers(0, most + 1, (groups, n))
    scales = ((0.5 + rng.random((groups, n))) / (most * k**0.5)).astype(np.float16)
    per_k = np.arange(k) // group
    steps = (codes - zeros[per_k].T).astype(np.float32)
    weight = steps * scales[per_k].T.astype(np.float32)
    stored_zeros = (zeros - packing.offset) % (most + 1)
    if packing.method == "awq":
        tensors = {"qweight": awq_rows(codes.T), "qzeros": awq_rows(stored_zeros)}
    else:
        words = packed_rows(codes, packing.bits).T
        tensors = {
            "qweight": np.ascontiguousarray(words),
            "qzeros": packed_rows(stored_zeros, packing.bits),
        }
        if packing.indexed:
            tensors["g_idx"] = per_k.astype(np.int32)
    return {**tensors, "scales": scales}, weight.astype(np.float32)


def config_of(packing: Packing) -> dict[str, Any]:
    """config.json with its quantization_config."""
    own: dict[str, Any] = {"quant_method": packing.method, "bits": packing.bits}
    own["group_size"] = packing.group or -1
    if packing.method == "gptq":
        own |= {"desc_act": False, "sym": False}
        own["checkpoint_format"] = "gptq" if packing.offset else "gptq_v2"
    else:
        own |= {"zero_point": True, "version": "gemm"}
    return {**SHAPE, "quantization_config": own}


def write_prequantised(
    folder: Path, packing: Packing, config: Mapping[str, Any] | None = None, **replaced: Any
) -> dict[str, F32]:
    """A checkpoint whose layers' linears are coded; gives all its tensors as floats. `replaced` tensors of layer 0's
    down projection, by ending, take the place of the right ones."""
    rng = np.random.default_rng(7)
    floats = random_tensors(SHAPE)
    stored: dict[str, NDArray[Any]] = {}
    for name, values in floats.items():
        if name.endswith("_proj.weight"):
            parts, floats[name] = coded(rng, *values.shape, packing)
            prefix = name.removesuffix(".weight")
            first = replaced if prefix == "model.layers.0.mlp.down_proj" else {}
            for ending, tensor in {**parts, **first}.items():
                stored[f"{prefix}.{ending}"] = tensor
        else:
            stored[name] = values
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config or config_of(packing)))
    save_file(stored, folder / "model.safetensors")
    return floats
