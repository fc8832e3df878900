"""A small unfused decoder as a frontend makes it, for the tests of every pass."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from hearth.compiler.ir.ops import (
    Add,
    Attention,
    Cache,
    Constant,
    Embedding,
    Graph,
    KVWrite,
    Linear,
    Mul,
    Op,
    Position,
    RMSNorm,
    RoPE,
    Silu,
    Tokens,
)
from hearth.compiler.ir.tensors import ArraySource
from hearth.compiler.ir.types import CacheType
from hearth.schemas.commands import KVKind, KVScheme

V, E, H, HKV, D, F, S = 40, 24, 4, 2, 8, 36, 32
Build = Callable[..., Graph]


class Weights:
    """Random named constants from one seed."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)

    def __call__(self, name: str, *shape: int) -> Constant:
        values = self.rng.standard_normal(shape).astype(np.float32) / np.sqrt(shape[-1])
        return Constant(name, ArraySource(values.astype(np.float32)))


def _decoder(
    *, layers: int = 2, tied: bool = True, bias: bool = False, kv: KVScheme = KVScheme.F32
) -> Graph:
    weight, tokens, position = Weights(7), Tokens(), Position()
    cos, sin = weight("rope.cos", S, D // 2), weight("rope.sin", S, D // 2)
    table = weight("embed.weight", V, E)
    x: Op = Embedding(table, tokens)
    caches: list[Op] = []

    def linear(name: str, x: Op, n: int, k: int, with_bias: bool = False) -> Op:
        y = Linear(x, weight(f"{name}.weight", n, k))
        return Add(y, weight(f"{name}.bias", n)) if with_bias else y

    def write(layer: int, kind: KVKind, x: Op) -> Op:
        cache = Cache(CacheType(layer, kind, HKV, D, S, kv))
        caches.append(KVWrite(cache, x, position))
        return caches[-1]

    for layer in range(layers):
        at = f"layers.{layer}"
        norm = RMSNorm(x, weight(f"{at}.norm1.weight", E), 1e-5)
        q = linear(f"{at}.q_proj", norm, H * D, E, bias)
        k = linear(f"{at}.k_proj", norm, HKV * D, E, bias)
        v = linear(f"{at}.v_proj", norm, HKV * D, E, bias)
        k_state = write(layer, KVKind.K, RoPE(k, cos, sin, position, HKV))
        v_state = write(layer, KVKind.V, v)
        rotated = RoPE(q, cos, sin, position, H)
        attended = Attention(rotated, k_state, v_state, position, H, D**-0.5)
        x = Add(x, linear(f"{at}.o_proj", attended, E, H * D))
        norm = RMSNorm(x, weight(f"{at}.norm2.weight", E), 1e-5)
        gate, up = (linear(f"{at}.{part}", norm, F, E) for part in ("gate_proj", "up_proj"))
        x = Add(x, linear(f"{at}.down_proj", Mul(Silu(gate), up), E, F))
    head = table if tied else weight("head.weight", V, E)
    logits = Linear(RMSNorm(x, weight("norm.weight", E), 1e-5), head)
    return Graph({"main": (logits, *caches)})


@pytest.fixture
def decoder() -> Build:
    """Build an unfused decoder graph: layers, tied, bias, kv."""
    return _decoder
