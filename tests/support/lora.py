"""PEFT directories with random matrices, what they make of a checkpoint, and an adapter read back from its section."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

F32 = NDArray[np.float32]
ALL = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


@dataclass(frozen=True)
class Peft:
    """What an adapter's config says; further fields in `more`."""

    rank: int = 4
    alpha: float = 8
    targets: tuple[str, ...] = ALL
    seed: int = 0
    spread: float = 0.2
    more: tuple[tuple[str, Any], ...] = ()


def shapes_of(checkpoint: Path, targets: Sequence[str]) -> dict[str, tuple[int, int]]:
    """[N, K] of the modules whose name ends with one of the targets."""
    found = {}
    with safe_open(checkpoint / "model.safetensors", "numpy") as file:
        for name in file.keys():  # noqa: SIM118 (it is no mapping)
            module, shape = name.removesuffix(".weight"), file.get_slice(name).get_shape()
            if name.endswith(".weight") and len(shape) == 2 and module.split(".")[-1] in targets:
                n, k = shape[::-1] if module.split(".")[-1].startswith("c_") else shape  # Conv1D
                found[module] = n, k
    return found


def write_peft(folder: Path, checkpoint: Path, peft: Peft | None = None) -> Path:
    """adapter_config.json and adapter_model.safetensors (f32 of values that f16 holds)."""
    peft = peft or Peft()
    rng = np.random.default_rng(peft.seed)
    more = dict(peft.more)
    tensors: dict[str, np.ndarray] = {}
    for module, (n, k) in sorted(shapes_of(checkpoint, peft.targets).items()):
        rank = more.get("rank_pattern", {}).get(module.split(".")[-1], peft.rank)
        for side, shape in (("A", (rank, k)), ("B", (n, rank))):
            values = rng.standard_normal(shape) * peft.spread / np.sqrt(shape[1])
            key = f"base_model.model.{module}.lora_{side}.weight"
            tensors[key] = values.astype(np.float16).astype(np.float32)
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": peft.rank,
        "lora_alpha": peft.alpha,
        "target_modules": list(peft.targets),
        "bias": "none",
        "use_dora": False,
        "use_rslora": False,
        "fan_in_fan_out": False,
        "modules_to_save": None,
        **more,
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "adapter_config.json").write_text(json.dumps(config))
    save_file(tensors, folder / "adapter_model.safetensors")
    return folder


def merged(folder: Path, checkpoint: Path, adapter: Path, scale: float = 1.0) -> Path:
    """The checkpoint with W + scale * scaling * B A in f32."""
    shutil.copytree(checkpoint, folder, dirs_exist_ok=True)
    tensors = {
        name: values.astype(np.float32)
        for name, values in load_file(checkpoint / "model.safetensors").items()
    }
    config = json.loads((adapter / "adapter_config.json").read_text())
    pairs = load_file(adapter / "adapter_model.safetensors")
    for key in pairs:
        if ".lora_A." not in key:
            continue
        a, b = pairs[key].astype(np.float64), pairs[key.replace("lora_A", "lora_B")]
        name = key.removeprefix("base_model.model.").replace(".lora_A.weight", ".weight")
        delta = (b @ a) * (scale * scaling(config, name.removesuffix(".weight"), len(a)))
        delta = delta.T if name.split(".")[-2].startswith("c_") else delta
        tensors[name] = (tensors[name] + delta).astype(np.float32)
    save_file(tensors, folder / "model.safetensors")
    return folder


def scaling(config: Mapping[str, Any], module: str, rank: int) -> float:
    """alpha / r, or alpha / sqrt(r)."""
    patterns = config.get("alpha_pattern") or {}
    alpha = patterns.get(module.split(".")[-1], config["lora_alpha"])
    return float(alpha / (np.sqrt(rank) if config.get("use_rslora") else rank))
