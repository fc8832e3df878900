"""Archives made of another's sections, some of them changed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from hearth.runtime.archive import ArchiveWriter, open_archive

Edit = Callable[[bytes], bytes]


def rewrite(
    source: Path,
    output: Path,
    edits: Mapping[str, Edit] | None = None,
    drop: tuple[str, ...] = (),
    add: Mapping[str, tuple[str, bytes]] | None = None,
) -> Path:
    """`edits` change the bytes of sections by name, `drop` leaves some out, `add` appends (kind, bytes)."""
    archive = open_archive(source)
    with ArchiveWriter(output) as writer:
        for section in archive.directory.sections:
            if section.name not in drop:
                data = bytes(archive.section(section.name))
                writer.add(section.name, section.kind, (edits or {}).get(section.name, bytes)(data))
        for name, (kind, data) in (add or {}).items():
            writer.add(name, kind, data)
    return output
