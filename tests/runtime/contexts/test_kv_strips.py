"""What the first n positions take of a KV region: against the layout's own words, position by position."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hearth.compiler.ir.types import CacheType
from hearth.compiler.lower.kv import kv_layout
from hearth.runtime.contexts.kv_strips import pack, pack_pieces, packed_nbytes, unpack
from hearth.schemas.commands import KVKind, KVScheme
from hearth.schemas.kv_layout import KVLayout

WIDTH = {KVScheme.F32: 4, KVScheme.F16: 2, KVScheme.INT8: 1, KVScheme.INT8_STATIC: 1}


def layout(scheme: KVScheme, heads: int, head_dim: int, context: int, layers: int = 2) -> KVLayout:
    return kv_layout(
        CacheType(
            layer=layer, kind=kind, scheme=scheme, heads=heads, head_dim=head_dim, context=context
        )
        for layer in range(layers)
        for kind in KVKind
    )


def places(found: KVLayout, position: int) -> list[int]:
    """Every byte of a region that belongs to a position, by docs/layouts.md."""
    bytes_: list[int] = []
    for layer in found.layers:
        d, s, width = layer.head_dim, layer.context, WIDTH[layer.scheme]
        quads, sp = -(-d // 4), -(-s // 16) * 16
        for head in range(layer.heads):
            row = range((head * s + position) * d * width, (head * s + position + 1) * d * width)
            bytes_ += [layer.v.codes.offset + byte for byte in row]
            if width > 1:
                bytes_ += [layer.k.codes.offset + byte for byte in row]
            else:
                start = (head * (sp // 16) + position // 16) * quads * 64 + position % 16 * 4
                quad = (start + q * 64 + i for q in range(quads) for i in range(4))
                bytes_ += [layer.k.codes.offset + byte for byte in quad]
            for half in (layer.k, layer.v):
                if half.scales is not None:
                    at = half.scales.offset + (head * sp + position) * 4
                    bytes_ += range(at, at + 4)
    return bytes_


@settings(max_examples=60, deadline=None)
@given(
    scheme=st.sampled_from(list(KVScheme)),
    heads=st.integers(1, 3),
    head_dim=st.integers(1, 9),
    context=st.integers(1, 40),
    data=st.data(),
)
def test_a_copy_is_the_bytes_of_its_positions_and_nothing_else(
    scheme: KVScheme, heads: int, head_dim: int, context: int, data: st.DataObject
) -> None:
    found = layout(scheme, heads, head_dim, context)
    held = data.draw(st.integers(0, context))
    start = data.draw(st.integers(0, held))
    end = data.draw(st.integers(start, held))
    region = np.random.default_rng(1).integers(0, 256, found.nbytes, dtype=np.uint8)
    packed = pack(found, region, start, held)
    assert packed.nbytes == packed_nbytes(found, start, held)
    other = np.zeros_like(region)
    unpack(found, packed, range(start, held), end, other)
    mine = [byte for position in range(start, end) for byte in places(found, position)]
    assert np.array_equal(other[mine], region[mine])
    later = [byte for position in range(held, context) for byte in places(found, position)]
    assert not other[later].any(), "bytes of positions that were not copied"
    before = [byte for position in range(start) for byte in places(found, position)]
    assert ((other[before] == region[before]) | (other[before] == 0)).all()


@pytest.mark.parametrize("scheme", KVScheme)
def test_a_copy_does_not_depend_on_what_was_rewound(scheme: KVScheme) -> None:
    found = layout(scheme, 2, 6, 40)
    rng = np.random.default_rng(2)
    region = rng.integers(0, 256, found.nbytes, dtype=np.uint8)
    before = pack(found, region, 0, 21)
    later = [byte for position in range(21, 40) for byte in places(found, position)]
    region[later] = rng.integers(0, 256, len(later), dtype=np.uint8)
    assert np.array_equal(pack(found, region, 0, 21), before)


@pytest.mark.parametrize("least", [1, 100, 10**6])
def test_pieces_are_the_copy_in_their_order(least: int) -> None:
    found = layout(KVScheme.INT8, 2, 6, 40)
    region = np.random.default_rng(2).integers(0, 256, found.nbytes, dtype=np.uint8)
    pieces = list(pack_pieces(found, region, 0, 21, least))
    assert np.array_equal(np.concatenate(pieces), pack(found, region, 0, 21))
    assert all(piece.nbytes >= least for piece in pieces[:-1])


def test_layers_may_have_caches_of_their_own() -> None:
    found = layout(KVScheme.INT8, 1, 4, 16)
    longer = replace(found.layers[1], scheme=KVScheme.INT8_STATIC)
    assert packed_nbytes(replace(found, layers=(found.layers[0], longer)), 0, 3) > 0
