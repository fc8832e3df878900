"""What is told of a model: its line in /api/tags and /api/ps, its page of /api/show."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from hearth.runtime.serving.ollama.responses import Json, moment
from hearth.schemas.manifest import Manifest, ModelKind

FOREVER = datetime(9999, 12, 31, tzinfo=UTC)  # when a model expires that never does
FORMAT = "har"
STEPS = ((1_000_000_000, "B"), (1_000_000, "M"), (1_000, "K"))


@dataclass(frozen=True)
class Facts:
    """A served name. `parent` is the model that an adapter belongs to, "" for a model itself."""

    name: str
    parent: str
    manifest: Manifest
    nbytes: int
    modified: datetime
    digest: str  # 64 hex digits
    template: str
    tools: bool

    def line(self) -> Json:
        """Of /api/tags."""
        return {**self._named(), "modified_at": moment(self.modified)}

    def running(self, expires: datetime | None) -> Json:
        """Of /api/ps: archives are mapped into memory, none of it a graphics card's."""
        return {
            **self._named(),
            "expires_at": moment(expires or FOREVER),
            "size_vram": 0,
            "context_length": self.manifest.context,
        }

    def page(self) -> Json:
        """Of /api/show."""
        return {
            "modelfile": f"# served by hearth\nFROM {self.name}\n",
            "parameters": f"num_ctx                        {self.manifest.context}",
            "template": self.template,
            "details": self._details(),
            "model_info": _model_info(self.manifest),
            "capabilities": self._capabilities(),
            "modified_at": moment(self.modified),
        }

    def _named(self) -> Json:
        tagged = latest(self.name)
        return {
            "name": tagged,
            "model": tagged,
            "size": self.nbytes,
            "digest": self.digest,
            "details": self._details(),
        }

    def _details(self) -> Json:
        manifest = self.manifest
        return {
            "parent_model": self.parent,
            "format": FORMAT,
            "family": manifest.family,
            "families": [manifest.family],
            "parameter_size": rounded(manifest.parameters),
            "quantization_level": manifest.schemes.weights,
        }

    def _capabilities(self) -> list[str]:
        found = ["completion"] if self.manifest.kind == ModelKind.DECODER else []
        if self.manifest.embedding is not None:
            found.append("embedding")
        return found + ["tools"] * self.tools


def latest(name: str) -> str:
    """A name with a tag: Ollama's clients show and compare names that have one."""
    return name if ":" in name else f"{name}:latest"


def rounded(count: int) -> str:
    """1543714304 is 1.5B, as Ollama writes it."""
    for size, letter in STEPS:
        if count >= size:
            return (
                f"{count / size:.1f}{letter}" if size > 1_000_000 else f"{count / size:.2f}{letter}"
            )
    return str(count)


def _model_info(manifest: Manifest) -> Mapping[str, Any]:
    family = manifest.family
    info: Json = {
        "general.architecture": family,
        "general.basename": manifest.source,
        "general.parameter_count": manifest.parameters,
        f"{family}.context_length": manifest.context,
        "hearth.fingerprint": manifest.fingerprint,
        "hearth.format": manifest.format,
        "hearth.weights": manifest.schemes.weights,
        "hearth.activations": manifest.schemes.activations,
        "hearth.kv": manifest.schemes.kv,
    }
    if manifest.dims is not None:
        info |= {
            f"{family}.block_count": manifest.dims.layers,
            f"{family}.embedding_length": manifest.dims.hidden,
            f"{family}.attention.head_count": manifest.dims.heads,
            f"{family}.attention.head_count_kv": manifest.dims.kv_heads,
            f"{family}.attention.key_length": manifest.dims.head_dim,
            f"{family}.feed_forward_length": manifest.dims.ffn,
            f"{family}.vocab_size": manifest.dims.vocab,
        }
    elif manifest.embedding is not None:
        info[f"{family}.embedding_length"] = manifest.embedding.columns
    return info
