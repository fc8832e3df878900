"""RopeConfig: the rotary settings of config.json, in either spelling.

transformers 4: `rope_theta` beside `rope_scaling` {"type" or "rope_type", ...}; transformers 5: `rope_parameters`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from hearth.compiler.frontend.fields import Fields, shorten
from hearth.schemas.errors import CheckpointError


class RopeKind(StrEnum):
    """How the frequencies are scaled; the names are transformers'."""

    DEFAULT = "default"
    LINEAR = "linear"
    LLAMA3 = "llama3"


@dataclass(frozen=True)
class RopeConfig:
    """`factor` divides frequencies (linear: all, llama3: the low ones); the rest is llama3's alone."""

    theta: float
    kind: RopeKind = RopeKind.DEFAULT
    factor: float = 1.0
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    original_context: int = 0


def context_limit(rope: RopeConfig, longest: int) -> int:
    """The longest context the model serves: max_position_embeddings, or what the scaling covers."""
    base = rope.original_context or longest
    return max(longest, int(base * rope.factor))


def read_rope(fields: Fields) -> RopeConfig:
    """Theta and scaling; a kind of scaling that is not built is refused by name."""
    key, table = _table(fields)
    rope = Fields(table, f"{fields.where}: {key}")
    theta = _theta(fields, rope)
    kind = _kind(rope)
    config = _READERS[kind](fields, rope, theta)
    _check_rest(rope, kind)
    fields.take("original_max_position_embeddings")  # has no effect on kinds that did not read it
    return config


def _table(fields: Fields) -> tuple[str, Mapping[str, Any]]:
    old, new = fields.table("rope_scaling"), fields.table("rope_parameters")
    if old and new and old != new:
        raise fields.conflict("rope_scaling and rope_parameters differ")
    if old:
        return "rope_scaling", old
    return "rope_parameters", new or {}


def _theta(fields: Fields, rope: Fields) -> float:
    outer = fields.number("rope_theta", 0.0) if "rope_theta" in fields.values else 0.0
    inner = rope.number("rope_theta", 0.0) if "rope_theta" in rope.values else 0.0
    if outer and inner and outer != inner:
        raise fields.conflict(f"rope_theta is {outer}, and {inner} in {rope.where}")
    return inner or outer or 10000.0


def _kind(rope: Fields) -> RopeKind:
    old, new = rope.text("type", ""), rope.text("rope_type", "")
    if old and new and old != new:
        raise rope.conflict(f"type = {old!r}, rope_type = {new!r}")
    try:
        return RopeKind(new or old or "default")
    except ValueError:
        key = "rope_type" if new else "type"
        raise rope.unsupported(key, " or ".join(RopeKind)) from None


def _default(fields: Fields, rope: Fields, theta: float) -> RopeConfig:
    return RopeConfig(theta)


def _linear(fields: Fields, rope: Fields, theta: float) -> RopeConfig:
    return RopeConfig(theta, RopeKind.LINEAR, factor=rope.number("factor"))


def _llama3(fields: Fields, rope: Fields, theta: float) -> RopeConfig:
    inner = rope.optional_integer("original_max_position_embeddings")
    outer = fields.optional_integer("original_max_position_embeddings")
    if inner and outer and inner != outer:
        raise fields.conflict(f"original_max_position_embeddings is {outer} and {inner}")
    low, high = rope.number("low_freq_factor"), rope.number("high_freq_factor")
    if high <= low:
        raise rope.invalid("high_freq_factor", f"more than low_freq_factor = {low}")
    return RopeConfig(
        theta,
        RopeKind.LLAMA3,
        factor=rope.number("factor"),
        low_freq_factor=low,
        high_freq_factor=high,
        original_context=inner or outer or fields.integer("max_position_embeddings"),
    )


_READERS = {
    RopeKind.DEFAULT: _default,
    RopeKind.LINEAR: _linear,
    RopeKind.LLAMA3: _llama3,
}

_NEUTRAL: Mapping[str, float] = {"partial_rotary_factor": 1, "factor": 1, "attention_factor": 1}


def _check_rest(rope: Fields, kind: RopeKind) -> None:
    """What this kind does not use must be absent, null or without effect."""
    for key, value in rope.unread().items():
        if value is None or (key in _NEUTRAL and value == _NEUTRAL[key]):
            continue
        raise CheckpointError(
            "config.unsupported",
            f"{key} = {shorten(value)} for rope type {kind.value!r}",
            expected="no such key" + (" or 1" if key in _NEUTRAL else ""),
            where=rope.where,
        )
