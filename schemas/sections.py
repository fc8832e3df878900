"""What an archive's directory says: named byte ranges with their hashes (schemas/FORMAT.md)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

FORMAT_VERSION = 2
# Bits of the header that a reader must understand, by name; features.py says which programs have them.
FEATURES: Mapping[str, int] = {"geglu": 0, "scale": 1, "soft_cap": 2}

MANIFEST = "manifest"
PROGRAM = "program"
KV_LAYOUT = "kv_layout"
WEIGHTS_INDEX = "weights.index"
TOKENIZER = "tokenizer"  # tokenizer.json as it came
TOKENIZER_CONFIG = "tokenizer_config"
CHAT_TEMPLATE = "chat_template"
GENERATION_CONFIG = "generation_config"
INSTRUCTIONS = "instructions"  # before texts that become vectors
PROVENANCE = "provenance"
GRAPH = "graph"  # ports and steps of a general graph
TENSORS = "tensors"  # the large tensors of a graph's ONNX segments
PROMPT = "prompt"  # a prompt that need not be read
PROMPT_KV = "prompt.kv"  # its keys and values
GOLDEN = "golden"  # inputs with the results they must give
SIGNATURE = "signature"
LINEARS = "linears"  # which modules of the source the linears hold
LINEAR_VECTORS = "linears.vectors"


def weights_section(target: str) -> str:
    """The section that holds the packed weights of a target."""
    return f"weights/{target}"


def lora_section(name: str) -> str:
    """The section that describes an adapter."""
    return f"lora/{name}"


def lora_data_section(name: str) -> str:
    """The section of an adapter's matrices."""
    return f"lora/{name}/data"


def onnx_section(number: int) -> str:
    """The section of one ONNX segment."""
    return f"onnx/{number}"


class Kind(StrEnum):
    """What a section holds. A reader passes over kinds it does not know."""

    MANIFEST = "manifest"
    PROGRAM = "program"
    KV_LAYOUT = "kv_layout"
    WEIGHTS = "weights"
    WEIGHTS_INDEX = "weights_index"
    TOKENIZER = "tokenizer"
    JSON = "json"
    TEXT = "text"
    PROVENANCE = "provenance"
    GRAPH = "graph"
    GOLDEN = "golden"
    PROMPT = "prompt"
    PROMPT_KV = "prompt_kv"
    SIGNATURE = "signature"
    ONNX = "onnx"  # a ModelProto
    TENSORS = "tensors"  # the large tensors of an ONNX segment
    LINEARS = "linears"
    LINEAR_VECTORS = "linear_vectors"  # f32 values that section `linears` refers to
    LORA = "lora"
    LORA_DATA = "lora_data"
    RETIRED = "retired"  # the directory that an append replaced


PAGED = (Kind.WEIGHTS, Kind.TENSORS)
LARGE = (*PAGED, Kind.LORA_DATA, Kind.PROMPT_KV)  # not hashed where an archive is opened


def alignment(kind: str) -> int:
    """Weights start on a page, everything else on a cache line."""
    return 4096 if kind in PAGED else 64


@dataclass(frozen=True)
class Section:
    """`nbytes` bytes at `offset` of the file, and their SHA-256."""

    name: str
    kind: str
    offset: int
    nbytes: int
    sha256: bytes

    @property
    def end(self) -> int:
        return self.offset + self.nbytes


@dataclass(frozen=True)
class Directory:
    """All sections in order of offset; the names of the required features by their header bit."""

    features: Mapping[str, int]
    sections: tuple[Section, ...]
