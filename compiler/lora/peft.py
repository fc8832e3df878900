"""A PEFT directory: adapter_config.json and adapter_model.safetensors, whose pairs of matrices are read by module."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hearth.compiler.frontend.json_files import read_object
from hearth.compiler.frontend.safetensors import TensorSource
from hearth.compiler.frontend.shard import Shard, read_shard
from hearth.compiler.ir.tensors import F32, read
from hearth.schemas.errors import CheckpointError

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
PREFIX = "base_model.model."
KEY = re.compile(r"(?P<module>.+)\.lora_(?P<side>[AB])\.weight")
ALPHA = 8  # PEFT's defaults
MOST_SETTING = 1e9  # of a rank or an alpha
MOST_REPEATS = (
    3  # of a pattern: each multiplies the time that Python's regular expressions may take
)
REPEATED_GROUP = re.compile(r"\)[*+{]")
# Values of `init_lora_weights` that start training from other weights than the base model's.
OTHER_BASES = ("pissa", "olora", "corda", "loftq", "lora_ga")


@dataclass(frozen=True, eq=False)
class LoraModule:
    """What is added to a module's W[N, K]: scaling * B[N, r] A[r, K]."""

    name: str
    a: F32
    b: F32
    scaling: float


@dataclass(frozen=True, eq=False)
class PeftAdapter:
    """All modules of a directory, by name; `where` is the directory, `sha256` (hex) that of its weights."""

    where: str
    sha256: str
    task: str
    targets: tuple[str, ...]
    modules: Mapping[str, LoraModule]


def read_peft(folder: Path) -> PeftAdapter:
    """The adapter; CheckpointError lora.* for what is no plain LoRA, by the name of what is too much."""
    where = folder / CONFIG
    config = read_object(where, "give the folder that PEFT's save_pretrained wrote")
    _check_config(config, str(where))
    path = folder / WEIGHTS
    if not path.exists() and (folder / "adapter_model.bin").exists():
        raise _refused(
            "the weights are adapter_model.bin, a pickle",
            str(folder),
            "save the adapter with safe_serialization=True",
        )
    shard = read_shard(path)
    pairs = _pairs(shard, str(path))
    modules = {name: _module(name, pair, config, shard) for name, pair in pairs.items()}
    if not modules:
        raise _refused("there are no matrices in it", str(path))
    targets = config.get("target_modules") or []
    named = tuple(sorted(map(str, targets))) if isinstance(targets, list) else (str(targets),)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    task = str(config.get("task_type") or "")
    return PeftAdapter(str(folder), digest, task, named, modules)


def _refused(what: str, where: str, remedy: str = "") -> CheckpointError:
    return CheckpointError(
        "lora.unsupported",
        what,
        expected="a LoRA adapter of linear modules",
        where=where,
        remedy=remedy or "merge the adapter into the model and compile that",
    )


def _check_config(config: Mapping[str, Any], where: str) -> None:
    """Refuses what would not be low-rank products alone."""
    kind = config.get("peft_type")
    if kind != "LORA":
        raise _refused(f"peft_type is {kind!r}", where)
    for key, name in (
        ("use_dora", "DoRA"),
        ("use_qalora", "QALoRA"),
        ("lora_bias", "biases of B"),
        ("modules_to_save", "modules saved whole"),
        ("trainable_token_indices", "tokens trained apart"),
        ("target_parameters", "parameters that are no modules"),
        ("layer_replication", "layers used twice"),
        ("alora_invocation_tokens", "activated LoRA"),
        ("arrow_config", "routed adapters"),
    ):
        if config.get(key):
            raise _refused(f"{key} is {config[key]!r} ({name})", where)
    if config.get("bias", "none") != "none":
        raise _refused(f"bias is {config['bias']!r}", where)
    start = config.get("init_lora_weights", True)
    if isinstance(start, str) and start.lower().startswith(OTHER_BASES):
        raise _refused(
            f"init_lora_weights is {start!r}, which changes the base model's weights",
            where,
            "convert the adapter to a plain one (save_pretrained with path_initial_model_for_weight_conversion)",
        )


def _pairs(shard: Shard, where: str) -> dict[str, dict[str, str]]:
    """The tensors' names by module and side."""
    pairs: dict[str, dict[str, str]] = {}
    for name in sorted(shard.tensors):
        match = KEY.fullmatch(name)
        if match is None:
            raise _refused(f"tensor {name!r}", where)
        module = match["module"].removeprefix(PREFIX)
        pairs.setdefault(module, {})[match["side"]] = name
    for module, pair in pairs.items():
        if len(pair) != 2:
            lacking = "B" if "A" in pair else "A"
            raise _bad(f"module {module!r} has no lora_{lacking}", "both", where)
    return pairs


def _bad(found: str, expected: str, where: str) -> CheckpointError:
    return CheckpointError(
        "lora.shape",
        found,
        expected=expected,
        where=where,
        remedy="use the adapter with the model that it was trained for",
    )


def _module(
    module: str, pair: Mapping[str, str], config: Mapping[str, Any], shard: Shard
) -> LoraModule:
    path = shard.path
    a, b = (read(TensorSource(shard, shard.tensors[pair[side]])) for side in "AB")
    rank = _setting(config, "rank_pattern", module, config.get("r", ALPHA), str(path))
    for side, found, axis in (("A", a, 0), ("B", b, 1)):
        if found.ndim != 2 or found.shape[axis] != rank:
            shape = list(found.shape)
            raise _bad(f"tensor {pair[side]!r} has the shape {shape}", f"rank {rank:g}", str(path))
    alpha = _setting(config, "alpha_pattern", module, config.get("lora_alpha", ALPHA), str(path))
    divisor = math.sqrt(rank) if config.get("use_rslora") else rank
    return LoraModule(module, np.asarray(a), np.asarray(b), alpha / divisor)


def _setting(
    config: Mapping[str, Any], patterns: str, module: str, usual: Any, where: str
) -> float:
    """A number that a pattern may set for some modules, as PEFT finds it."""
    found = next(_matching(config.get(patterns) or {}, module, where), usual)
    if not isinstance(found, int | float) or not 0 < found < MOST_SETTING:
        raise _bad(f"{patterns} or its default gives {found!r} for {module!r}", "above 0", where)
    return found


def _matching(patterns: Any, module: str, where: str) -> Iterator[Any]:
    if not isinstance(patterns, dict):
        raise _bad(f"patterns of modules are {patterns!r:.80}", "an object", where)
    for pattern, value in patterns.items():
        _check_pattern(pattern, where)
        try:
            if re.match(rf"(.*\.)?({pattern})$", module):
                yield value
        except re.error:
            continue


def _check_pattern(pattern: str, where: str) -> None:
    """Refuses a regular expression that could take for ever: one choice inside a repeated one, or too many."""
    choices = sum(map(pattern.count, "*+?{"))
    if REPEATED_GROUP.search(pattern) or choices > MOST_REPEATS or pattern.count("(") > 8:
        raise _refused(f"the pattern {pattern!r:.80}", where, "name the modules one by one")
