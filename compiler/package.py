"""The archive of a lowered model: its sections in order, the weights streamed tensor by tensor."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hearth.compiler.frontend import SourceModel
from hearth.compiler.ir.ops import Constant, Graph
from hearth.compiler.ir.rewrite import all_outputs, order
from hearth.compiler.lower import Lowered, PackedTensor
from hearth.compiler.lower.layouts import ALIGN, Bytes
from hearth.compiler.lower.targets import Target
from hearth.compiler.quantize.schemes import Scheme, WeightScheme
from hearth.runtime.archive import ArchiveWriter
from hearth.runtime.archive.files import disk_full, free_nbytes
from hearth.runtime.progress import Progress, step
from hearth.schemas import __version__, sections
from hearth.schemas.codec import dumps
from hearth.schemas.errors import UsageError
from hearth.schemas.manifest import Dims, Manifest, SchemeNames
from hearth.schemas.program import Rows
from hearth.schemas.sections import Kind
from hearth.schemas.weights_index import TensorEntry, WeightsIndex

# Directory, padding between sections, and what else is too small to count one by one.
OVERHEAD_NBYTES = 64 << 10


@dataclass(frozen=True)
class Package:
    """What goes into one archive."""

    source: str  # a name, never a path
    model: SourceModel
    scheme: Scheme
    target: Target
    lowered: Lowered
    skipped: list[str]


@dataclass(frozen=True)
class Packed:
    """What the archive holds, in bytes and parameters; bits with their scales, without RoPE tables."""

    archive_nbytes: int
    weights_nbytes: int
    parameters: int
    bits_per_weight: float


def require_output(source: Path, output: Path) -> None:
    """Refuses to replace a file of the checkpoint."""
    inside = output.resolve().parent == source.resolve()
    if inside and output.suffix != ".har" and os.path.exists(output):
        raise UsageError(
            "usage.output",
            "the output would replace a file of the checkpoint",
            expected="a path ending in .har, or outside the checkpoint",
            where=str(output),
        )


def require_disk(output: Path, package: Package) -> None:
    """Refuses before any work what the disk cannot hold."""
    expected = expected_nbytes(package)
    free = free_nbytes(output.absolute().parent)
    if free is not None and expected > free:
        raise disk_full(output, expected, "the archive does not fit")


def expected_nbytes(package: Package) -> int:
    """About the bytes of the archive, from above."""
    small = sum(len(data) for _, _, data in small_sections(package))
    return package.lowered.program.weights_nbytes + small + OVERHEAD_NBYTES


def write_archive(output: Path, package: Package, progress: Progress) -> Packed:
    """Write section by section; the output appears when all of it is there."""
    weights_nbytes = package.lowered.program.weights_nbytes
    with ArchiveWriter(output, expected_nbytes=expected_nbytes(package)) as writer:
        for name, kind, data in small_sections(package):
            writer.add(name, kind, data)
        with step(progress, "pack weights", weights_nbytes) as advance:
            name = sections.weights_section(package.target.name)
            writer.add(name, Kind.WEIGHTS, weight_chunks(package.lowered, advance))
    parameters = count_parameters(package.model.graph)
    return Packed(output.stat().st_size, weights_nbytes, parameters, _bits(package.lowered))


def _bits(lowered: Lowered) -> float:
    held = [_entry(tensor) for tensor in lowered.weights]
    held = [entry for entry in held if entry.parameters]
    nbytes = sum(entry.nbytes for entry in held)
    return 8 * nbytes / max(sum(entry.parameters for entry in held), 1)


def weight_chunks(lowered: Lowered, advance: Callable[[int], None]) -> Iterator[Bytes]:
    """The weights region: every tensor at its offset, zeros between."""
    at = 0
    for tensor in lowered.weights:
        yield from _padding(tensor.offset - at)
        at = tensor.offset
        for chunk in tensor.chunks():
            yield chunk
            at += chunk.nbytes
            advance(chunk.nbytes)
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


def small_sections(package: Package) -> list[tuple[str, Kind, bytes]]:
    """Everything but the weights."""
    assets, lowered = package.model.assets, package.lowered
    template = None if assets.chat_template is None else assets.chat_template.encode()
    found: list[tuple[str, Kind, bytes | None]] = [
        (sections.MANIFEST, Kind.MANIFEST, dumps(manifest(package))),
        (sections.PROGRAM, Kind.PROGRAM, dumps(lowered.program)),
        (sections.KV_LAYOUT, Kind.KV_LAYOUT, dumps(lowered.kv_layout)),
        (sections.WEIGHTS_INDEX, Kind.WEIGHTS_INDEX, dumps(weights_index(package))),
        (sections.TOKENIZER, Kind.TOKENIZER, assets.tokenizer_json),
        (sections.TOKENIZER_CONFIG, Kind.JSON, assets.tokenizer_config),
        (sections.CHAT_TEMPLATE, Kind.TEXT, template),
        (sections.GENERATION_CONFIG, Kind.JSON, assets.generation_config),
        (sections.PROVENANCE, Kind.PROVENANCE, provenance(package)),
    ]
    return [(name, kind, data) for name, kind, data in found if data is not None]


def manifest(package: Package) -> Manifest:
    """The facts of the archive."""
    config, lowered = package.model.config, package.lowered
    return Manifest(
        hearth=__version__,
        family=config.family,
        source=package.source,
        fingerprint=package.model.fingerprint,
        dims=Dims(
            config.layers, config.hidden, config.heads, config.kv_heads,
            config.head_dim, config.ffn, config.vocab,
        ),
        context=config.context,
        chunk=lowered.program.entries["prefill"].max_rows[Rows.T],
        schemes=scheme_names(package.scheme),
        targets=(package.target.name,),
        entries=tuple(lowered.program.entries),
        parameters=count_parameters(package.model.graph),
        bos=package.model.assets.bos_id,
        eos=package.model.assets.eos_ids,
    )  # fmt: skip


def scheme_names(scheme: Scheme) -> SchemeNames:
    """Names a person can read: int4_g32, dynamic, int8."""
    kv = scheme.kv.name.lower()
    return SchemeNames(_name(scheme.weights), _name(scheme.embeddings), scheme.activations, kv)


def _name(scheme: WeightScheme) -> str:
    return f"{scheme.name}_g{scheme.group}" if scheme.group else scheme.name


def weights_index(package: Package) -> WeightsIndex:
    """What lies where in the weights section."""
    return WeightsIndex(tuple(_entry(tensor) for tensor in package.lowered.weights))


def _entry(tensor: PackedTensor) -> TensorEntry:
    table = tensor.layout is None and len(tensor.shape) > 1
    parameters = 0 if table else int(np.prod(tensor.shape, dtype=np.int64))
    return TensorEntry(
        tensor.name, tensor.offset, tensor.nbytes, tensor.layout, tensor.shape,
        tensor.group, tensor.paired, parameters,
    )  # fmt: skip


def provenance(package: Package) -> bytes:
    """What made the archive: equal inputs give equal bytes, so no times, hosts or paths."""
    lowered = package.lowered
    facts: dict[str, Any] = {
        "hearth": __version__,
        "source": package.source,
        "fingerprint": package.model.fingerprint,
        "skipped_passes": package.skipped,
        "arena": {
            name: {"nbytes": plan.nbytes, "lower_bound": plan.lower_bound}
            for name, plan in lowered.plans.items()
        },
    }
    return json.dumps(facts, indent=1, sort_keys=True).encode()


def count_parameters(graph: Graph) -> int:
    """Parameters of the source: every constant once, RoPE tables not."""
    constants = {op for op in order(all_outputs(graph)) if isinstance(op, Constant)}
    kept = (constant for constant in constants if not constant.name.startswith("rope."))
    return sum(int(np.prod(constant.value.shape, dtype=np.int64)) for constant in kept)
