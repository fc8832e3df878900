"""The manifest: what an archive is, in facts a person or a tool asks for first."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from hearth.schemas.sections import FORMAT_VERSION


class ModelKind(StrEnum):
    """What an archive does: continues text, makes vectors of text, or runs a graph of named tensors."""

    DECODER = "decoder"
    ENCODER = "encoder"
    GRAPH = "graph"


@dataclass(frozen=True)
class Dims:
    """The model's sizes: L, E, H, Hkv, D, F, V."""

    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    ffn: int
    vocab: int


@dataclass(frozen=True)
class SchemeNames:
    """How numbers are stored, by the schemes' names ("int4_g32", "int8", "dynamic", ...)."""

    weights: str
    embeddings: str
    activations: str
    kv: str


@dataclass(frozen=True)
class Embedding:
    """The vector of a text: f32[columns], pooled by `pooling` (none: one per token), of length 1 if `normalised`."""

    pooling: str
    normalised: bool
    columns: int


@dataclass(frozen=True)
class Manifest:
    """One per archive. `source` is a name, never a path of the machine that compiled."""

    hearth: str  # version of the compiler
    kind: ModelKind
    family: str
    source: str
    fingerprint: str  # SHA-256 of the source, in hex
    dims: Dims | None  # None: a graph
    embedding: Embedding | None  # of an encoder, and of a decoder with a pooling
    context: int  # positions the KV cache holds; 0: none
    chunk: int  # tokens one prefill call takes; an encoder takes the whole context
    schemes: SchemeNames
    targets: tuple[str, ...]
    entries: tuple[str, ...]
    parameters: int
    bos: int | None
    eos: tuple[int, ...]
    format: int = FORMAT_VERSION
