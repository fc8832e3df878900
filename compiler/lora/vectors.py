"""The f32 values that a record of linears refers to by their offsets."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from hearth.compiler.ir.tensors import F32

NONE = -1


@dataclass
class Vectors:
    """f32 values, each vector once."""

    places: dict[bytes, int] = field(default_factory=dict)
    parts: list[F32] = field(default_factory=list)
    count: int = 0

    def place(self, values: F32 | None) -> int:
        """The offset of a vector, -1 for none."""
        if values is None:
            return NONE
        values = np.ascontiguousarray(values, np.float32).reshape(-1)
        key = values.tobytes()
        if key not in self.places:
            self.places[key] = self.count
            self.parts.append(values)
            self.count += len(values)
        return self.places[key]

    def whole(self) -> F32:
        """All of them, one after the other."""
        return np.concatenate(self.parts) if self.parts else np.zeros(0, np.float32)


def vector_at(vectors: F32, offset: int, count: int) -> F32 | None:
    """f32[count] at an offset, None for -1."""
    return None if offset == NONE else np.asarray(vectors[offset : offset + count], np.float32)
