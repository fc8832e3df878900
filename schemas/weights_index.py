"""The weights index: which packed tensor lies where in the weights section, and how it is packed."""

from __future__ import annotations

from dataclasses import dataclass

from hearth.schemas.commands import Layout


@dataclass(frozen=True)
class TensorEntry:
    """One packed tensor. `layout` None: a plain f32 array (gains, biases, RoPE tables).

    `shape` is the logical one ([N, K] of a linear), `group` the K-values that share a multiplier or scale (0: none),
    `paired` the gate/up interleaving of docs/layouts.md, `parameters` how many parameters of the source
    model it stands for (0 for tables the compiler made).
    """

    name: str
    offset: int
    nbytes: int
    layout: Layout | None
    shape: tuple[int, ...]
    group: int
    paired: bool
    parameters: int


@dataclass(frozen=True)
class WeightsIndex:
    """All tensors in order of offset."""

    tensors: tuple[TensorEntry, ...]
