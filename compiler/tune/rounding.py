"""What int8 codes leave of a matrix: forward the runtime's rounding, backward as if there were none.

Straight-through gradients (Bengio et al. 2013, arXiv:1308.3432): rounding has no slope of use, so a change passes
as it is; only values that fixed codes clip take none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from hearth.compiler.ir.arithmetic import (
    dequantise,
    dequantise_static,
    quantize,
    quantize_static,
    round_f16,
)
from hearth.compiler.ir.tensors import QuantisedSource, Source
from hearth.compiler.ir.types import MOST_CODE, Static
from hearth.compiler.quantize.schemes import Scheme
from hearth.compiler.quantize.static import Statics
from hearth.schemas.commands import KVKind, KVScheme

F32 = NDArray[np.float32]


class Rounding(Protocol):
    """Of rows f32[..., N], each by itself."""

    def rounded(self, x: F32) -> F32:
        """The floats that the codes of x stand for."""

    def passed(self, x: F32, change: F32) -> F32:
        """The gradient of x for that of what is rounded."""


@dataclass(frozen=True)
class Exact:
    """Floats as they are."""

    def rounded(self, x: F32) -> F32:
        return x

    def passed(self, x: F32, change: F32) -> F32:
        return change


@dataclass(frozen=True)
class Half(Exact):
    """f16."""

    def rounded(self, x: F32) -> F32:
        return round_f16(x)


@dataclass(frozen=True)
class PerRow(Exact):
    """int8 codes, each row with a scale of its own: `quantize` of docs/arithmetic.md."""

    def rounded(self, x: F32) -> F32:
        return dequantise(*quantize(x))


@dataclass(frozen=True)
class Fixed:
    """int8 codes of a scale and a zero point found before: `quantize_static` of docs/arithmetic.md."""

    codes: Static

    def rounded(self, x: F32) -> F32:
        return dequantise_static(quantize_static(x, self.codes), self.codes)

    def passed(self, x: F32, change: F32) -> F32:
        within = np.abs(x * self.codes.inverse + np.float32(self.codes.zero)) <= MOST_CODE
        return np.where(within, change, np.float32(0))


EXACT = Exact()


@dataclass(frozen=True, eq=False)
class Roundings:
    """How a program rounds what passes: inputs of linears by their weights' names, queries, and halves of caches."""

    inputs: Mapping[str, Rounding] = field(default_factory=dict)
    queries: Rounding = EXACT
    caches: Rounding | Mapping[tuple[int, KVKind], Rounding] = EXACT

    def of_input(self, weight: str) -> Rounding:
        return self.inputs.get(weight, EXACT)

    def of_cache(self, layer: int, kind: KVKind) -> Rounding:
        return self.caches[layer, kind] if isinstance(self.caches, Mapping) else self.caches


UNROUNDED = Roundings()


def roundings(
    scheme: Scheme, coded: Mapping[str, QuantisedSource | Source], statics: Statics
) -> Roundings:
    """Of the archive that a scheme and these codes make. Of activations `auto`, static codes everywhere."""
    inputs: dict[str, Rounding] = {}
    for name, source in coded.items():
        if isinstance(source, QuantisedSource) and scheme.activations != "none":
            inputs[name] = _of_input(name, scheme, statics)
    match scheme.kv:
        case KVScheme.F32:
            return Roundings(inputs)
        case KVScheme.F16:
            return Roundings(inputs, caches=Half())
        case KVScheme.INT8:
            return Roundings(inputs, PerRow(), PerRow())
        case KVScheme.INT8_STATIC:
            fixed = {half: Fixed(codes) for half, codes in statics.caches.items()}
            return Roundings(inputs, PerRow(), fixed)


def _of_input(name: str, scheme: Scheme, statics: Statics) -> Rounding:
    found = None if scheme.activations == "dynamic" else statics.inputs.get(name)
    return PerRow() if found is None else Fixed(found)
