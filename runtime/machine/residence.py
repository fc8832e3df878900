"""An archive's pages in memory: read before they are needed, in huge pages, locked; and what came of it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hearth.runtime.progress import Progress, Silent, step
from hearth.schemas.errors import ResourceError

if TYPE_CHECKING:
    from hearth.runtime import native
    from hearth.runtime.archive import Archive

PIECE = 32 << 20  # read at once
HUGE = 2 << 20
SMAPS = Path("/proc/self/smaps")
LINE = re.compile(r"([0-9a-f]+)-([0-9a-f]+) ")


@dataclass(frozen=True)
class Residence:
    """What to do with an archive's pages at load."""

    prefault: bool = False  # read all of it
    huge_pages: bool = False  # so, and anew where it is cached in small pages
    lock: bool = False  # so, and keep it in memory


@dataclass(frozen=True)
class MappedMemory:
    """Bytes of an archive: all, those in this process's memory, those mapped by huge pages, those locked."""

    nbytes: int
    resident_nbytes: int
    huge_nbytes: int
    locked_nbytes: int


def make_resident(archive: Archive, wanted: Residence, progress: Progress | None = None) -> None:
    """Raises ResourceError resource.lock where a limit forbids to lock, resource.unreadable where reading fails."""
    if wanted == Residence():
        return
    mapping = archive.mapping
    told = Silent() if progress is None else progress
    _read(archive, told, "read the archive")
    if wanted.huge_pages and _has_small_pages(mapping):
        mapping.forget()
        _read(archive, told, "read it into huge pages")
    if wanted.lock:
        _lock(archive)


def mapped_memory(mapping: native.Mapping, smaps: Path = SMAPS) -> MappedMemory | None:
    """As the kernel counts them (kB); None where it does not tell."""
    array = mapping.array()
    fields: dict[str, int] = {}
    try:
        with smaps.open() as lines:
            inside = False
            for line in lines:
                if place := LINE.match(line):
                    inside = int(place[1], 16) == array.ctypes.data
                elif inside and line.endswith("kB\n"):
                    name, value = line.split(":")
                    fields[name] = int(value.split()[0]) << 10
    except (OSError, ValueError):
        return None
    if "Rss" not in fields:
        return None
    return MappedMemory(
        array.nbytes, fields["Rss"], fields.get("FilePmdMapped", 0), fields.get("Locked", 0)
    )


def _has_small_pages(mapping: native.Mapping) -> bool:
    """More of them than the ends of a file need."""
    found = mapped_memory(mapping)
    return found is not None and found.huge_nbytes < found.nbytes - 2 * HUGE


def _read(archive: Archive, progress: Progress, title: str) -> None:
    nbytes = archive.header.file_nbytes
    with step(progress, title, nbytes) as advance:
        for start in range(0, nbytes, PIECE):
            piece = min(PIECE, nbytes - start)
            try:
                archive.mapping.populate(start, piece)
            except OSError as error:
                raise ResourceError(
                    "resource.unreadable",
                    f"cannot be read at byte {start}: {error.strerror}",
                    where=str(archive.path),
                    remedy="check the disk, or run without --prefault, --huge-pages and --lock",
                ) from None
            advance(piece)


def _lock(archive: Archive) -> None:
    try:
        archive.mapping.lock()
    except OSError as error:
        limit = locked_limit()
        raise ResourceError(
            "resource.lock",
            f"the archive cannot be locked in memory: {error.strerror}",
            where=str(archive.path),
            expected=f"room for {archive.header.file_nbytes:,} bytes, the limit is {limit}",
            remedy="raise the limit (ulimit -l, LimitMEMLOCK=), or run without --lock",
        ) from None


def locked_limit() -> str:
    """RLIMIT_MEMLOCK for people."""
    import resource

    limit, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    return "not set" if limit == resource.RLIM_INFINITY else f"{limit:,} bytes"
