"""Add a PEFT adapter to an archive: coded on its own, appended; the base is not rewritten."""

from __future__ import annotations

import hashlib
from pathlib import Path

from hearth.compiler.lora.pack import pack
from hearth.compiler.lora.peft import read_peft
from hearth.runtime.archive import Archive, append
from hearth.runtime.lora.stored import adapter_names, check_name
from hearth.schemas import __version__, sections
from hearth.schemas.codec import dumps
from hearth.schemas.errors import UsageError
from hearth.schemas.lora import AdapterWeights, Lora
from hearth.schemas.manifest import ModelKind
from hearth.schemas.sections import Kind


def add_adapter(
    archive: Archive, name: str, folder: Path, weights: AdapterWeights = AdapterWeights.INT8
) -> Lora:
    """What was added. A failure at any moment leaves the archive as it was (runtime/archive/append.py).

    Whoever has the archive open sees the adapter when it is opened again.
    """
    check_name(name, adapter_names(archive))
    if archive.manifest.kind is not ModelKind.DECODER:
        raise UsageError(
            "arguments.kind",
            f"an adapter for an archive of kind {archive.manifest.kind}",
            expected="a decoder",
            where=str(archive.path),
        )
    adapter = read_peft(folder)
    packed = pack(archive, adapter, weights)
    data = packed.data.tobytes()
    lora = Lora(
        hearth=__version__,
        fingerprint=archive.fingerprint,
        source=folder.resolve().name,
        source_sha256=adapter.sha256,
        task=adapter.task,
        rank=packed.rank,
        scaling=packed.scaling,
        targets=adapter.targets,
        modules=len(adapter.modules),
        parameters=packed.parameters,
        weights=weights,
        data_nbytes=len(data),
        data_sha256=hashlib.sha256(data).hexdigest(),
        linears=packed.linears,
    )
    append(
        archive.path,
        [
            (sections.lora_section(name), Kind.LORA, dumps(lora)),
            (sections.lora_data_section(name), Kind.LORA_DATA, data),
        ],
    )
    return lora
