"""A general graph: a model whose nodes were not raised to the IR, and why each was not."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from math import prod
from pathlib import Path

import onnx

from hearth.compiler.frontend.onnx.initializers import StoredTensor
from hearth.compiler.frontend.onnx.model import OnnxModel

SAMPLE = 4096  # bytes hashed at each end of a large tensor


@dataclass(frozen=True)
class GraphSource:
    """The model as it is read. `reasons` says why it was not raised whole: of a node by its title, or of the graph."""

    model: OnnxModel
    reasons: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def files(self) -> tuple[Path, ...]:
        """All files that were read."""
        return self.model.files

    @property
    def parameters(self) -> int:
        """Elements of all stored tensors."""
        return sum(prod(each.shape) for each in self.model.initializers.values())

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256, in hex, of the graph, its small tensors and both ends of its large ones; no file's name enters."""
        proto = onnx.ModelProto()
        proto.CopyFrom(self.model.proto)
        for tensor in proto.graph.initializer:
            del tensor.external_data[:]
        digest = hashlib.sha256(proto.SerializeToString(deterministic=True))
        for held in self.model.initializers.values():
            if isinstance(held, StoredTensor):
                count = min(SAMPLE, held.nbytes)
                digest.update(held.file.read(held.offset, count))
                digest.update(held.file.read(held.offset + held.nbytes - count, count))
        return digest.hexdigest()
