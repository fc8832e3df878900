"""Adapters: which modules of the source each packed linear holds, and what an adapter adds to which linear."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

from hearth.schemas.bounds import Bounds
from hearth.schemas.commands import Layout

# What keeps a name from being a section's, or part of one where a name may have a scale after a colon.
NAME_PATTERN = r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}"
Order = Annotated[int, Bounds(1)]
VECTOR = Annotated[int, Bounds(-1)]  # an offset into the f32 values of `linears.vectors`; -1: none


@dataclass(frozen=True)
class LinearPart:
    """Rows start .. stop of a packed weight [N, K] are those of a module of the source, by its name there."""

    module: str
    start: int
    stop: int


@dataclass(frozen=True)
class Factor:
    """A matrix [order, order] of +1 and -1; `values` is its offset."""

    order: Order
    values: int


@dataclass(frozen=True)
class Turn:
    """A map of rows of `size` values: less their mean where `centred`, then (x * signs) @ H / sqrt(order of H).

    H is the Kronecker product of the factors, in each block of as many columns; `signs` f32[size] is an offset.
    """

    size: Order
    centred: bool
    signs: int
    factors: tuple[Factor, ...]


@dataclass(frozen=True)
class TurnedRows:
    """Rows first .. last of a weight under a turn, span by span of its size and column by column."""

    first: int
    last: int
    turn: int


@dataclass(frozen=True)
class LinearRecord:
    """How a packed linear W'(x') came from the source's W x.

    W' = R diag(rows) W diag(columns) C, x = columns * (C x') + shift: C is the turn `turned_columns` (-1: none), R what
    `turned_rows` says. `weight` is the tensor's name in the weights index; `columns` f32[K] (a norm's gain, factors of
    smoothing), `shift` f32[K] (a norm's bias) and `rows` f32[N] are offsets.
    """

    weight: str
    parts: tuple[LinearPart, ...]
    columns: VECTOR
    shift: VECTOR
    rows: VECTOR
    turned_columns: Annotated[int, Bounds(-1)]
    turned_rows: TurnedRows | None


@dataclass(frozen=True)
class Linears:
    """All linears that adapters may change, and the turns they name by number; or `refused`, why there are none."""

    refused: str
    turns: tuple[Turn, ...]
    linears: tuple[LinearRecord, ...]


class AdapterWeights(StrEnum):
    """How the matrices of an adapter are stored."""

    INT8 = "int8"
    F16 = "f16"
    F32 = "f32"


FORMS: Mapping[AdapterWeights, int] = {form: at for at, form in enumerate(AdapterWeights)}
LAYOUTS: Mapping[AdapterWeights, Layout] = {
    AdapterWeights.INT8: Layout.Q8B16,
    AdapterWeights.F16: Layout.F16B16,
    AdapterWeights.F32: Layout.F32B16,
}


@dataclass(frozen=True)
class LoraLinear:
    """What is added to one packed weight: B (A x), as offsets into the adapter's data (docs/lora.md).

    `offset` is the weight's in the weights region, `ranks` the rows of A: the sum over the parts. `bias` f32[ranks] is
    added to A x, -1: none.
    """

    weight: str
    offset: int
    ranks: int
    a: int
    bias: Annotated[int, Bounds(-1)]
    b: int


@dataclass(frozen=True)
class Lora:
    """An adapter of one archive, bound to it by the archive's fingerprint; its matrices are in a section of their own.

    `rank` is the largest of the modules', `scaling` alpha / r or alpha / sqrt(r) of most of them; both are in the
    data already. `source_sha256` is that of the file of weights.
    """

    hearth: str
    fingerprint: str
    source: str
    source_sha256: str
    task: str
    rank: int
    scaling: float
    targets: tuple[str, ...]
    modules: int
    parameters: int
    weights: AdapterWeights
    data_nbytes: int
    data_sha256: str
    linears: tuple[LoraLinear, ...]
