"""Static codes of what passes: a linear's input and the halves of caches, and what dynamic codes would spare."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hearth.compiler.calibrate.statistics import CHUNK
from hearth.compiler.ir.types import MOST_CODE, Static
from hearth.compiler.quantize import Statics
from hearth.compiler.quantize.ranges import Histogram, static
from hearth.schemas.commands import KVKind
from hearth.schemas.recipe import RangeName

F32 = NDArray[np.float32]
Found = dict[
    str, Any
]  # plain data: "inputs" and "caches" to [scale, zero], "spared" to [names, share of the power]


def codes_of(values: F32, ranges: RangeName) -> Static:
    """Static codes for all values of a matrix."""
    counted = Histogram()
    for start in range(0, len(values), CHUNK):
        counted.add(values[start : start + CHUNK])
    return static(counted, ranges)


def spared(values: F32, codes: Static) -> float:
    """The share of an input's power f32[T, K] that one scale for all loses beyond a scale per row."""
    power = fixed = per_row = 0.0
    for start in range(0, len(values), CHUNK):
        x = values[start : start + CHUNK]
        power += float(np.square(x, dtype=np.float64).sum())
        code = np.clip(np.rint(x * codes.inverse) + codes.zero, -MOST_CODE, MOST_CODE) - codes.zero
        fixed += float(np.square(x - code * np.float32(codes.scale), dtype=np.float64).sum())
        scale = np.maximum(np.abs(x).max(axis=1, keepdims=True), np.float32(1e-30)) / MOST_CODE
        per_row += float(np.square(x - np.rint(x / scale) * scale, dtype=np.float64).sum())
    return (fixed - per_row) / power if power else 0.0


def statics_of(found: Mapping[str, Any]) -> Statics:
    """The typed value of what was found."""

    def read(pair: Any) -> Static:
        return Static(pair[0], pair[1])

    caches = {}
    for name, pair in found.get("caches", {}).items():
        layer, _, kind = name.partition(".")
        caches[int(layer), KVKind[kind]] = read(pair)
    inputs = {name: read(pair) for name, pair in found.get("inputs", {}).items()}
    return Statics(inputs, caches)


def loudest_of(found: Mapping[str, Any]) -> tuple[tuple[str, ...], ...]:
    """Of `auto`, the weights that share an input, by what dynamic codes would spare there."""
    ranked = sorted(found.get("spared", ()), key=lambda pair: (-pair[1], pair[0]))
    return tuple(tuple(names) for names, _ in ranked)


def note_input(found: Found, names: list[str], values: F32, ranges: RangeName, auto: bool) -> None:
    """Of the linears of these weights, which share an input."""
    codes = codes_of(values, ranges)
    for name in names:
        found.setdefault("inputs", {})[name] = [codes.scale, codes.zero]
    if auto:
        found.setdefault("spared", []).append([names, spared(values, codes)])


def note_cache(found: Found, layer: int, kind: KVKind, values: F32, ranges: RangeName) -> None:
    """Of one half of a layer's cache."""
    codes = codes_of(values, ranges)
    found.setdefault("caches", {})[f"{layer}.{kind.name}"] = [codes.scale, codes.zero]
