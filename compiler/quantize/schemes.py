"""Schemes: how weights, activations and the KV cache are coded. A scheme is a value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from hearth.schemas.commands import KVScheme
from hearth.schemas.errors import UsageError

Activations = Literal["none", "dynamic"]


@dataclass(frozen=True)
class WeightScheme:
    """Weights of `bits` bits; `group` K-values share an integer multiplier (0: none), a channel a float scale."""

    name: str
    bits: int
    group: int = 0

    @property
    def quantised(self) -> bool:
        """Whether the weights become integer codes."""
        return self.bits < 16


F32 = WeightScheme("f32", 32)  # the checkpoint's values as they are
F16 = WeightScheme("f16", 16)
INT8 = WeightScheme("int8", 8)
INT4_G32 = WeightScheme("int4", 4, 32)
INT4_G64 = WeightScheme("int4", 4, 64)
INT4_G128 = WeightScheme("int4", 4, 128)

WEIGHT_SCHEMES = (F32, F16, INT8, INT4_G32, INT4_G64, INT4_G128)
DEFAULT_GROUP = 32


@dataclass(frozen=True)
class Scheme:
    """What `quantize` does: to the linears, to the embedding table (and a head tied to it), to activations, to KV."""

    weights: WeightScheme = INT4_G32
    embeddings: WeightScheme = INT8
    activations: Activations = "dynamic"
    kv: KVScheme = KVScheme.INT8


def weight_scheme(name: str, group: int = 0) -> WeightScheme:
    """The scheme of a name and a group size (0: the default, where the scheme has groups)."""
    named = [scheme for scheme in WEIGHT_SCHEMES if scheme.name == name]
    if not named:
        known = ", ".join(dict.fromkeys(scheme.name for scheme in WEIGHT_SCHEMES))
        raise UsageError(
            "usage.weights", f"unknown weight scheme {name!r}", expected=f"one of {known}"
        )
    wanted = group or (DEFAULT_GROUP if named[0].group else 0)
    for scheme in named:
        if scheme.group == wanted:
            return scheme
    groups = ", ".join(str(scheme.group) for scheme in named if scheme.group)
    raise UsageError(
        "usage.group_size",
        f"group size {group} for {name} weights",
        expected=f"one of {groups}" if groups else "no group size",
    )


def make_scheme(
    weights: WeightScheme,
    activations: Activations = "dynamic",
    kv: KVScheme = KVScheme.INT8,
    embeddings: WeightScheme | None = None,
) -> Scheme:
    """A scheme with its defaults: an embedding table as the weights, but int8 where those are int4.

    Activations are quantised only for weights that are: `dynamic` with float weights is a usage error.
    """
    if activations == "dynamic" and not weights.quantised:
        raise UsageError(
            "usage.activations",
            f"dynamic activations with {weights.name} weights",
            expected="int8 or int4 weights",
            remedy="use --activations none",
        )
    default = INT8 if weights.quantised else weights
    return Scheme(weights, embeddings or default, activations, kv)
