"""What the exporter knows of an op's value: the names of the tensors that hold it."""

from __future__ import annotations

from dataclasses import dataclass

from hearth.compiler.ir.ops import Constant


@dataclass(frozen=True)
class Coded:
    """Quantised rows: integral codes f32[..., K] and scale f32[..., 1], or [1, 1] for all."""

    codes: str
    scale: str


@dataclass(frozen=True)
class Cached:
    """A cache: the past f32[1, Hkv, P, D], and the rows of this call f32[1, T, Hkv * D] once written.

    `coded`: the rows as int8 codes [1, T, Hkv, D] and scale [1, T, Hkv, 1], where the scheme codes them.
    """

    past: str
    rows: str = ""
    coded: Coded | None = None


Value = str | Coded | Cached | Constant
