"""A rotary decoder's config.json -> ModelConfig, by the steps that `load` takes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hearth.compiler.frontend.blueprint import Request
from hearth.compiler.frontend.config import ModelConfig, read_config
from hearth.compiler.frontend.config_keys import check_unread
from hearth.compiler.frontend.families import find_family
from hearth.compiler.frontend.families.rotary import RotaryFamily
from hearth.compiler.frontend.fields import Fields
from hearth.schemas.commands import KVScheme


def parse_config(
    values: Mapping[str, Any], *, context: int | None = None, where: str = "config.json"
) -> ModelConfig:
    """The typed config, or the error that `load` would raise."""
    fields = Fields(values, where)
    family = find_family(fields)
    assert isinstance(family, RotaryFamily)
    config = read_config(fields, family, Request(context, KVScheme.F32))
    check_unread(fields)
    return config


def without(config: Mapping[str, Any], *keys: str) -> dict[str, Any]:
    """The config with keys left out."""
    return {key: value for key, value in config.items() if key not in keys}


LLAMA3_SCALING = {
    "factor": 32.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
    "rope_type": "llama3",
}
LONGROPE = {
    "type": "longrope",
    "short_factor": [1.0, 1.5, 2],
    "long_factor": [1, 4.0, 20.5],
}
FULL, SLIDING = "full_attention", "sliding_attention"
