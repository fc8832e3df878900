"""The adapters of an archive: what its sections say of them, checked; binding one to an engine."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hearth.runtime import native
from hearth.runtime.adapters import Adapter
from hearth.runtime.archive import Archive, append
from hearth.runtime.archive.reader import unreadable
from hearth.runtime.lora.each_once import EachOnce
from hearth.schemas import sections
from hearth.schemas.codec import loads
from hearth.schemas.errors import ArchiveError, UsageError
from hearth.schemas.lora import FORMS, LAYOUTS, NAME_PATTERN, Lora
from hearth.schemas.sections import Kind, Section

REMEDY = "remove the adapter (hearth lora remove) and add it again"


@dataclass(frozen=True, eq=False)
class StoredAdapter:
    """An adapter and what its section says."""

    adapter: Adapter
    lora: Lora


def stored_adapters(archive: Archive) -> Mapping[str, StoredAdapter]:
    """By name, in the order they were added, each read and checked when it is asked for.

    ArchiveError archive.adapter, archive.schema for one that is damaged or not of this archive.
    """
    return EachOnce(adapter_names(archive), lambda name: _stored(archive, name))


def adapter_names(archive: Archive) -> tuple[str, ...]:
    """The names alone; nothing is checked."""
    kept = archive.directory.sections
    return tuple(_name_of(section) for section in kept if section.kind == Kind.LORA)


def _name_of(section: Section) -> str:
    return section.name.removeprefix(sections.lora_section(""))


def _stored(archive: Archive, name: str) -> StoredAdapter:
    section = archive.entries[sections.lora_section(name)]
    lora = loads(Lora, archive.section(section.name), section.name, str(archive.path))
    _check(archive, name, lora)
    return StoredAdapter(Adapter(name, lora.rank, section.sha256.hex()), lora)


def _check(archive: Archive, name: str, lora: Lora) -> None:
    """The name is one, the data is there, and both are of this archive."""
    data = archive.entries.get(sections.lora_data_section(name))
    if not re.fullmatch(NAME_PATTERN, name):
        raise _refused(archive, f"an adapter is named {name[:80]!r}", NAME_PATTERN)
    if lora.fingerprint != archive.fingerprint:
        what = f"adapter {name!r} was made for the archive {lora.fingerprint[:16]}"
        raise _refused(archive, what, archive.fingerprint[:16])
    held = None if data is None else (data.nbytes, data.sha256.hex())
    if held != (lora.data_nbytes, lora.data_sha256):
        found = "no data" if data is None else f"other data ({data.nbytes:,} bytes)"
        what = f"adapter {name!r} has {found}"
        raise _refused(archive, what, f"{lora.data_nbytes:,} bytes of the hash it names")


def _refused(archive: Archive, found: str, expected: str) -> ArchiveError:
    where = str(archive.path)
    return ArchiveError("archive.adapter", found, expected=expected, where=where, remedy=REMEDY)


def bind_adapter(archive: Archive, engine: native.Engine, stored: StoredAdapter) -> native.Adapter:
    """The adapter for runs of this engine, not copied. ArchiveError archive.adapter where its parts lie wrongly.

    Its pages are mapped at once: one by one, as they are met, would take several times as long.
    """
    lora, name = stored.lora, stored.adapter.name
    section = archive.entries[sections.lora_data_section(name)]
    try:
        archive.mapping.populate(section.offset, section.nbytes)
    except OSError as error:
        raise unreadable(archive.path, error) from None
    data = np.frombuffer(archive.section(section.name), np.uint8)
    layout = int(LAYOUTS[lora.weights])
    parts = [(e.offset, e.ranks, layout, e.a, e.bias, e.b) for e in lora.linears]
    try:
        return engine.adapter(data, FORMS[lora.weights], parts)
    except ValueError as error:
        raise _refused(archive, f"adapter {name!r}: {error}", "parts inside its data") from None


def check_name(name: str, taken: Collection[str] = ()) -> None:
    """UsageError `arguments.adapter_name` for a name that no adapter can have, or that another one has."""
    if re.fullmatch(NAME_PATTERN, name) and name not in taken:
        return
    problem = "there is an adapter of that name" if name in taken else "not a name"
    raise UsageError(
        "arguments.adapter_name",
        f"{name[:80]!r}: {problem}",
        expected="letters, digits, dots, dashes and underscores, at most 64, and a new name",
        remedy="hearth lora list shows the names, hearth lora remove frees one",
    )


def remove_adapter(archive: Archive, name: str) -> None:
    """Retire an adapter's sections; the file does not get smaller. UsageError `arguments.adapter` for no such name."""
    known = adapter_names(archive)
    if name not in known:
        raise UsageError(
            "arguments.adapter",
            f"there is no adapter {name[:80]!r}",
            expected=f"one of {', '.join(known)}" if known else "none: this archive has none",
        )
    replaced = {sections.lora_section(name), sections.lora_data_section(name)}
    append(Path(archive.path), [], replace=replaced)
