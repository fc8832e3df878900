"""What an archive is made of: its sections in order, the weights streamed tensor by tensor."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hearth.compiler.frontend import Assets, SourceModel
from hearth.compiler.ir.graph import Graph
from hearth.compiler.ir.ops import Constant
from hearth.compiler.ir.rewrite import all_outputs, order
from hearth.compiler.lora.record import Recorded
from hearth.compiler.lower import Lowered, PackedTensor
from hearth.compiler.lower.blocks import ALIGN, Bytes
from hearth.compiler.lower.targets import Target
from hearth.compiler.quantize.schemes import Scheme, kv_name
from hearth.runtime.archive import ArchiveWriter
from hearth.runtime.archive.files import disk_full, free_nbytes
from hearth.runtime.archive.sections import Chunk, flat
from hearth.runtime.progress import Progress, step
from hearth.schemas import __version__, sections
from hearth.schemas.codec import dumps
from hearth.schemas.errors import UsageError
from hearth.schemas.features import required_features
from hearth.schemas.manifest import Manifest, SchemeNames
from hearth.schemas.program import Rows
from hearth.schemas.sections import Kind
from hearth.schemas.weights_index import TensorEntry, WeightsIndex

# Directory, padding between sections, and what else is too small to count one by one.
OVERHEAD_NBYTES = 64 << 10


@dataclass(frozen=True)
class Part:
    """One section to write; `chunks` makes its `nbytes` bytes when they are wanted."""

    name: str
    kind: Kind
    nbytes: int
    chunks: Callable[[], Iterable[Chunk]]

    @classmethod
    def of(cls, name: str, kind: Kind, data: bytes) -> Part:
        """A small section, made already."""
        return cls(name, kind, len(data), lambda: (data,))


@dataclass(frozen=True)
class Package:
    """What goes into one archive, before its golden vectors and its provenance.

    `parameters` are the source's; `bits_per_weight` with scales, without RoPE tables. `features`: what a runtime must
    have (schemas/features.py).
    """

    parts: tuple[Part, ...]
    parameters: int
    bits_per_weight: float
    features: Mapping[str, int]

    @property
    def expected_nbytes(self) -> int:
        """About the bytes of the archive, from above."""
        return sum(part.nbytes for part in self.parts) + OVERHEAD_NBYTES

    @property
    def weights_nbytes(self) -> int:
        """Bytes of the sections that are mapped rather than decoded."""
        return sum(part.nbytes for part in self.parts if part.kind in sections.LARGE)


@dataclass(frozen=True)
class Native:
    """A model lowered whole: everything that its sections are made of."""

    source: str  # a name, never a path
    model: SourceModel
    scheme: Scheme
    target: Target
    lowered: Lowered
    recorded: Recorded | None = None  # of a decoder


def require_output(source: Path, output: Path) -> None:
    """Refuses to replace a file of the checkpoint."""
    folder = source if os.path.isdir(source) else source.parent
    inside = output.resolve().parent == folder.resolve()
    if inside and output.suffix != ".har" and os.path.exists(output):
        raise UsageError(
            "usage.output",
            "the output would replace a file of the checkpoint",
            expected="a path ending in .har, or outside the checkpoint",
            where=str(output),
        )


def require_disk(output: Path, package: Package) -> None:
    """Refuses before any work what the disk cannot hold."""
    expected = package.expected_nbytes
    free = free_nbytes(output.absolute().parent)
    if free is not None and expected > free:
        raise disk_full(output, expected, "the archive does not fit")


def write_parts(writer: ArchiveWriter, package: Package, progress: Progress) -> None:
    """Section by section, the large ones streamed."""
    with step(progress, "pack weights", package.weights_nbytes) as advance:
        for part in package.parts:
            large = part.kind in sections.LARGE
            chunks = part.chunks()
            writer.add(part.name, part.kind, _counted(chunks, advance) if large else chunks)


def _counted(chunks: Iterable[Chunk], advance: Callable[[int], None]) -> Iterator[Chunk]:
    for chunk in chunks:
        yield chunk
        advance(flat(chunk).nbytes)


def native_package(native: Native) -> Package:
    """The sections of a model that runs on the native engine alone."""
    lowered = native.lowered
    weights = Part(
        sections.weights_section(native.target.name),
        Kind.WEIGHTS,
        lowered.program.weights_nbytes,
        lambda: weight_chunks(lowered),
    )
    parameters = count_parameters(native.model.graph)
    parts = (*small_parts(native), weights, *_linear_parts(native.recorded))
    return Package(parts, parameters, _bits(lowered), required_features(lowered.program))


def _linear_parts(recorded: Recorded | None) -> tuple[Part, ...]:
    """What adapters need to know of the linears."""
    if recorded is None:
        return ()
    vectors = recorded.vectors.tobytes()
    return (
        Part.of(sections.LINEARS, Kind.LINEARS, dumps(recorded.linears)),
        Part.of(sections.LINEAR_VECTORS, Kind.LINEAR_VECTORS, vectors),
    )


def _bits(lowered: Lowered) -> float:
    held = [_entry(tensor) for tensor in lowered.weights]
    held = [entry for entry in held if entry.parameters]
    nbytes = sum(entry.nbytes for entry in held)
    return 8 * nbytes / max(sum(entry.parameters for entry in held), 1)


def weight_chunks(lowered: Lowered) -> Iterator[Bytes]:
    """The weights region: every tensor at its offset, zeros between."""
    at = 0
    for tensor in lowered.weights:
        yield from _padding(tensor.offset - at)
        at = tensor.offset
        for chunk in tensor.chunks():
            yield chunk
            at += chunk.nbytes
        if at != tensor.offset + tensor.nbytes:
            raise ValueError(
                f"{tensor.name} packed to {at - tensor.offset} of {tensor.nbytes} bytes"
            )
    yield from _padding(lowered.program.weights_nbytes - at)


def _padding(nbytes: int) -> Iterator[Bytes]:
    if not 0 <= nbytes < ALIGN:
        raise ValueError(f"a gap of {nbytes} bytes between weights")
    if nbytes:
        yield np.zeros(nbytes, np.uint8)


def small_parts(native: Native) -> tuple[Part, ...]:
    """Everything but the weights."""
    lowered = native.lowered
    return (
        Part.of(sections.MANIFEST, Kind.MANIFEST, dumps(manifest(native))),
        Part.of(sections.PROGRAM, Kind.PROGRAM, dumps(lowered.program)),
        Part.of(sections.KV_LAYOUT, Kind.KV_LAYOUT, dumps(lowered.kv_layout)),
        Part.of(sections.WEIGHTS_INDEX, Kind.WEIGHTS_INDEX, dumps(weights_index(lowered))),
        *asset_parts(native.model.assets),
    )


def asset_parts(assets: Assets) -> tuple[Part, ...]:
    """The files that travel with the weights, those there are."""
    template = None if assets.chat_template is None else assets.chat_template.encode()
    found: list[tuple[str, Kind, bytes | None]] = [
        (sections.TOKENIZER, Kind.TOKENIZER, assets.tokenizer_json),
        (sections.TOKENIZER_CONFIG, Kind.JSON, assets.tokenizer_config),
        (sections.CHAT_TEMPLATE, Kind.TEXT, template),
        (sections.GENERATION_CONFIG, Kind.JSON, assets.generation_config),
        (sections.INSTRUCTIONS, Kind.JSON, assets.instructions),
    ]
    return tuple(Part.of(name, kind, data) for name, kind, data in found if data is not None)


def manifest(native: Native) -> Manifest:
    """The facts of the archive."""
    model, lowered = native.model, native.lowered
    return Manifest(
        hearth=__version__,
        kind=model.kind,
        family=model.family,
        source=native.source,
        fingerprint=model.fingerprint,
        dims=model.dims,
        embedding=model.embedding,
        context=model.context,
        chunk=max(entry.max_rows[Rows.T] for entry in lowered.program.entries.values()),
        schemes=scheme_names(native.scheme),
        targets=(native.target.name,),
        entries=tuple(lowered.program.entries),
        parameters=count_parameters(model.graph),
        bos=model.assets.bos_id,
        eos=model.assets.eos_ids,
    )


def scheme_names(scheme: Scheme) -> SchemeNames:
    """Names a person can read: int4_g32, dynamic, int8."""
    kv = kv_name(scheme.kv)
    return SchemeNames(scheme.weights.written, scheme.embeddings.written, scheme.activations, kv)


def weights_index(lowered: Lowered) -> WeightsIndex:
    """What lies where in the weights section."""
    return WeightsIndex(tuple(_entry(tensor) for tensor in lowered.weights))


def _entry(tensor: PackedTensor) -> TensorEntry:
    table = tensor.layout is None and len(tensor.shape) > 1
    parameters = 0 if table else int(np.prod(tensor.shape, dtype=np.int64))
    return TensorEntry(
        tensor.name, tensor.offset, tensor.nbytes, tensor.layout, tensor.shape,
        tensor.group, tensor.paired, parameters,
    )  # fmt: skip


def count_parameters(graph: Graph) -> int:
    """Parameters of the source: every constant once, RoPE tables not."""
    constants = {op for op in order(all_outputs(graph)) if isinstance(op, Constant)}
    kept = (constant for constant in constants if not constant.name.startswith("rope."))
    return sum(int(np.prod(constant.value.shape, dtype=np.int64)) for constant in kept)
