"""An archive written anew with some sections changed and every hash right: what a careful forger would leave."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from hearth.runtime.archive import Archive, ArchiveWriter, open_archive
from hearth.runtime.archive.reader import open_container
from hearth.schemas.codec import dumps, loads
from hearth.schemas.sections import Kind

Change = Callable[[bytes], bytes]


def rewritten(source: Path, output: Path, changes: Mapping[str, Change | None]) -> Path:
    """Each section as its change makes it; None leaves it out. Retired directories go."""
    old = open_container(source, "full")
    with ArchiveWriter(output) as writer:
        for section in old.directory.sections:
            change = changes.get(section.name, bytes)
            if section.kind != Kind.RETIRED and change is not None:
                writer.add(section.name, section.kind, change(bytes(old.section(section.name))))
    return output


def typed(kind: type[Any], change: Callable[[Any], Any]) -> Change:
    """A change of a part's typed value."""
    return lambda data: dumps(change(loads(kind, data, kind.__name__)))


def replaced(data: bytes) -> Change:
    """Other bytes altogether."""
    return lambda _: data


def opened(path: Path) -> Archive:
    return open_archive(path, "full")
