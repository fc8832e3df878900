"""The manifest: what an archive is, in facts a person or a tool asks for first."""

from __future__ import annotations

from dataclasses import dataclass

from hearth.schemas.sections import FORMAT_VERSION


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
class Manifest:
    """One per archive. `source` is a name, never a path of the machine that compiled."""

    hearth: str  # version of the compiler
    family: str
    source: str
    fingerprint: str  # SHA-256 of the source, in hex
    dims: Dims
    context: int  # positions the KV cache holds
    chunk: int  # tokens one prefill call takes
    schemes: SchemeNames
    targets: tuple[str, ...]
    entries: tuple[str, ...]
    parameters: int
    bos: int | None
    eos: tuple[int, ...]
    format: int = FORMAT_VERSION
