"""RopeConfig: the rotary settings of config.json, in either spelling.

transformers 4: `rope_theta` beside `rope_scaling` {"type" or "rope_type", ...}; transformers 5: `rope_parameters`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from decimal import Context, Decimal, localcontext
from enum import StrEnum
from typing import Any

from hearth.compiler.frontend.fields import LARGEST, Fields, shorten
from hearth.compiler.frontend.rotary_names import FULL, SLIDING
from hearth.compiler.frontend.rounded import DIGITS
from hearth.schemas.errors import CheckpointError


class RopeKind(StrEnum):
    """How the frequencies are scaled; the names are transformers'."""

    DEFAULT = "default"
    LINEAR = "linear"
    LLAMA3 = "llama3"
    LONGROPE = "longrope"


THETA = 10000.0
FORMER_KINDS = {"su": RopeKind.LONGROPE}  # as the first files of Phi-3 call it


@dataclass(frozen=True)
class RopeConfig:
    """The first `share` of a head's values is turned. `factor` divides frequencies (linear: all, llama3: the low ones).

    `low_freq_factor`, `high_freq_factor`: of llama3 alone. longrope divides each frequency by a number of its own, of
    `short` in contexts of up to `original_context`, of `long` in longer ones, and multiplies the tables by `magnitude`.
    """

    theta: float
    kind: RopeKind = RopeKind.DEFAULT
    factor: float = 1.0
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    original_context: int = 0
    share: float = 1.0
    short: tuple[float, ...] = ()
    long: tuple[float, ...] = ()
    magnitude: float = 1.0

    def turned(self, head_dim: int) -> int:
        """How many of a head's values are turned."""
        return int(head_dim * self.share)

    def is_long(self, context: int) -> bool:
        """Whether the numbers of long contexts serve all texts of this one."""
        return bool(self.long) and context > self.original_context


def context_limit(rope: RopeConfig, longest: int) -> int:
    """The longest context the model serves: max_position_embeddings, or what the scaling covers."""
    base = rope.original_context or longest
    return max(longest, int(min(base * rope.factor, LARGEST)))


def read_rope(
    fields: Fields, head_dim: int, share: float | None = None, theta: float = THETA
) -> RopeConfig:
    """Theta and scaling; a kind of scaling that is not built is refused by name.

    `share`: what an absent partial_rotary_factor means; None: heads are turned whole, and another value is refused.
    `theta`: what an absent one means.
    """
    key, table = _table(fields)
    rope = Fields(table, f"{fields.where}: {key}")
    theta = _either(fields, rope, "rope_theta") or theta
    kind = _kind(rope)
    config = _READERS[kind](fields, rope, theta)
    if share is not None:
        config = replace(config, share=_share(fields, rope, share))
    _check_pairs(fields, rope, config, head_dim)
    _check_rest(rope, kind)
    fields.take("original_max_position_embeddings")  # has no effect on kinds that did not read it
    return config


def read_two_ropes(
    fields: Fields, head_dim: int, theta: float, local_theta: float
) -> tuple[RopeConfig, RopeConfig]:
    """Of layers that see everything, and of those with a window (Gemma 3): a table for each kind of layer in

    `rope_parameters` (transformers 5), or `rope_local_base_freq` beside what is of the former (4).
    """
    tables = fields.table("rope_parameters") or {}
    if not set(tables) <= {FULL, SLIDING}:
        raise fields.unsupported("rope_parameters", f"{FULL} and {SLIDING}, a table each")
    local_theta = fields.number("rope_local_base_freq", local_theta)
    full = fields.instead({"rope_parameters": tables.get(FULL)})
    local = Fields({"rope_parameters": tables.get(SLIDING)}, fields.where)
    return read_rope(full, head_dim, theta=theta), read_rope(local, head_dim, theta=local_theta)


def _table(fields: Fields) -> tuple[str, Mapping[str, Any]]:
    old, new = fields.table("rope_scaling"), fields.table("rope_parameters")
    if old and new and old != new:
        raise fields.conflict("rope_scaling and rope_parameters differ")
    if old:
        return "rope_scaling", old
    return "rope_parameters", new or {}


def _share(fields: Fields, rope: Fields, absent: float) -> float:
    share = _either(fields, rope, "partial_rotary_factor") or absent
    if share > 1:
        where = rope if "partial_rotary_factor" in rope.values else fields
        raise where.invalid("partial_rotary_factor", "at most 1")
    return share


def _either(fields: Fields, rope: Fields, key: str) -> float:
    """A number of one of the two places; 0 where it is in neither."""
    outer, inner = (each.number(key, 0.0) for each in (fields, rope))
    if outer and inner and outer != inner:
        raise fields.conflict(f"{key} is {outer}, and {inner} in {rope.where}")
    return inner or outer


def _kind(rope: Fields) -> RopeKind:
    old, new = rope.text("type", ""), rope.text("rope_type", "")
    if old and new and old != new:
        raise rope.conflict(f"type = {old!r}, rope_type = {new!r}")
    name = new or old or "default"
    try:
        return FORMER_KINDS.get(name) or RopeKind(name)
    except ValueError:
        key = "rope_type" if new else "type"
        raise rope.unsupported(key, " or ".join(RopeKind)) from None


def _default(fields: Fields, rope: Fields, theta: float) -> RopeConfig:
    return RopeConfig(theta)


def _linear(fields: Fields, rope: Fields, theta: float) -> RopeConfig:
    return RopeConfig(theta, RopeKind.LINEAR, factor=rope.number("factor"))


def _llama3(fields: Fields, rope: Fields, theta: float) -> RopeConfig:
    low, high = rope.number("low_freq_factor"), rope.number("high_freq_factor")
    if high <= low:
        raise rope.invalid("high_freq_factor", f"more than low_freq_factor = {low}")
    return RopeConfig(
        theta,
        RopeKind.LLAMA3,
        factor=rope.number("factor"),
        low_freq_factor=low,
        high_freq_factor=high,
        original_context=_original(fields, rope) or fields.integer("max_position_embeddings"),
    )


def _longrope(fields: Fields, rope: Fields, theta: float) -> RopeConfig:
    """As transformers' `_compute_longrope_parameters`."""
    original = _original(fields, rope) or fields.integer("original_max_position_embeddings")
    if original == 1:
        raise rope.invalid("original_max_position_embeddings", "more than 1")
    factor = rope.number("factor", fields.integer("max_position_embeddings") / original)
    return RopeConfig(
        theta,
        RopeKind.LONGROPE,
        original_context=original,
        short=rope.numbers("short_factor"),
        long=rope.numbers("long_factor"),
        magnitude=rope.number("attention_factor", _magnitude(factor, original)),
    )


def _magnitude(factor: float, original: int) -> float:
    """sqrt(1 + ln factor / ln original) of a context that became `factor` times as long; Ding et al. 2024,

    arXiv:2402.13753. In decimals, so that it is the same on every machine.
    """
    if factor <= 1:
        return 1.0
    with localcontext(Context(prec=DIGITS)):
        return float((1 + Decimal(factor).ln() / Decimal(original).ln()).sqrt())


def _original(fields: Fields, rope: Fields) -> int:
    """The context that the model was first made for; 0 where no key tells."""
    inner = rope.optional_integer("original_max_position_embeddings")
    outer = fields.optional_integer("original_max_position_embeddings")
    if inner and outer and inner != outer:
        raise fields.conflict(f"original_max_position_embeddings is {outer} and {inner}")
    return inner or outer or 0


_READERS = {
    RopeKind.DEFAULT: _default,
    RopeKind.LINEAR: _linear,
    RopeKind.LLAMA3: _llama3,
    RopeKind.LONGROPE: _longrope,
}

_NEUTRAL: Mapping[str, float] = {"partial_rotary_factor": 1, "factor": 1, "attention_factor": 1}


def _check_pairs(fields: Fields, rope: Fields, config: RopeConfig, head_dim: int) -> None:
    """Values are turned in pairs, each by a frequency of its own."""
    turned = config.turned(head_dim)
    if turned < 2 or turned % 2:
        where = rope if "partial_rotary_factor" in rope.values else fields
        expected = f"an even number of each head's {head_dim} values, not {turned}"
        raise where.invalid("partial_rotary_factor", expected)
    for key, factors in (("short_factor", config.short), ("long_factor", config.long)):
        if len(factors) not in (0, turned // 2):
            raise rope.invalid(
                key, f"{turned // 2} numbers, one for each pair of values, not {len(factors)}"
            )


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
