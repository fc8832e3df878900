"""Types of the IR: element type, shape with symbolic dims, and the KV cache of one layer."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from hearth.schemas.commands import KVKind, KVScheme
from hearth.schemas.dtypes import DType


class Dim(StrEnum):
    """Dims known only at run time: T tokens of a call, R rows of logits asked for."""

    T = "T"
    R = "R"


@dataclass(frozen=True)
class TensorType:
    """dtype[shape]; a scalar has shape ()."""

    dtype: DType
    shape: tuple[int | Dim, ...]

    def __str__(self) -> str:
        return f"{self.dtype}[{', '.join(str(dim) for dim in self.shape)}]"


@dataclass(frozen=True)
class CacheType:
    """One layer's K or V cache: S positions x Hkv heads x D, stored by `scheme`."""

    layer: int
    kind: KVKind
    heads: int
    head_dim: int
    context: int
    scheme: KVScheme

    def __str__(self) -> str:
        return (
            f"kv.{self.layer}.{self.kind.name.lower()}:"
            f"{self.scheme.name.lower()}[{self.heads}, {self.context}, {self.head_dim}]"
        )


Type = TensorType | CacheType
