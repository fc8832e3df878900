"""The KV layout: where each layer's keys, values and scales lie in a session's KV region (docs/layouts.md)."""

from __future__ import annotations

from dataclasses import dataclass

from hearth.schemas.commands import KVScheme


@dataclass(frozen=True)
class Span:
    """`nbytes` bytes at `offset` of a region."""

    offset: int
    nbytes: int

    @property
    def end(self) -> int:
        return self.offset + self.nbytes


@dataclass(frozen=True)
class KVHalf:
    """The keys, or the values, of one layer; scales only where the scheme has them."""

    codes: Span
    scales: Span | None = None


@dataclass(frozen=True)
class KVLayer:
    """One layer's cache: `heads` KV heads of `head_dim` numbers for `context` positions."""

    k: KVHalf
    v: KVHalf
    heads: int
    head_dim: int
    context: int
    scheme: KVScheme


@dataclass(frozen=True)
class KVLayout:
    """All layers in order; `nbytes` is the region of one session."""

    layers: tuple[KVLayer, ...]
    nbytes: int

    def spans(self) -> tuple[Span, ...]:
        """Every span of every layer, layer by layer: K codes, K scales, V codes, V scales."""
        halves = (half for layer in self.layers for half in (layer.k, layer.v))
        found = (span for half in halves for span in (half.codes, half.scales))
        return tuple(span for span in found if span is not None)
