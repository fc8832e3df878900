"""Large tensors of ONNX segments: one section, each tensor once, streamed from the source as it lies there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from hearth.compiler.frontend.onnx.initializers import StoredTensor as SourceTensor
from hearth.compiler.frontend.onnx.model import OnnxModel
from hearth.schemas.graph import StoredTensor

ALIGN = 64
PIECE = 1 << 20


@dataclass(frozen=True)
class TensorSection:
    """What lies where; `numbers` finds a tensor's place by its name."""

    tensors: tuple[StoredTensor, ...]
    sources: tuple[SourceTensor, ...]
    nbytes: int

    @property
    def numbers(self) -> dict[str, int]:
        """The number of each tensor."""
        return {tensor.name: number for number, tensor in enumerate(self.tensors)}

    def chunks(self) -> Iterator[bytes | bytearray]:
        """The section's bytes."""
        at = 0
        for place, source in zip(self.tensors, self.sources, strict=True):
            yield bytes(place.offset - at)
            yield from source.pieces(PIECE)
            at = place.offset + place.nbytes


def lay_out(model: OnnxModel, names: Iterable[str]) -> TensorSection:
    """The large ones among the named initializers, in order of their names."""
    held = [model.initializers[name] for name in sorted(names)]
    sources = tuple(each for each in held if isinstance(each, SourceTensor))
    places, at = [], 0
    for source in sources:
        places.append(StoredTensor(source.name, source.dtype, source.shape, at, source.nbytes))
        at += -(-source.nbytes // ALIGN) * ALIGN
    end = places[-1].offset + places[-1].nbytes if places else 0
    return TensorSection(tuple(places), sources, end)
