"""Open an archive: map it, check it strictly, and give its parts as typed values and memory views.

Nothing is copied and no code of the file is run. A section is a read-only view of the mapping, which lives
as long as the archive or any view of it.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal, TypeVar

from hearth.runtime import native
from hearth.runtime.archive import format, layout
from hearth.runtime.archive.consistency import Parts, check_consistency
from hearth.schemas import sections as names
from hearth.schemas.errors import ArchiveError, ResourceError
from hearth.schemas.kv_layout import KVLayout
from hearth.schemas.manifest import Manifest
from hearth.schemas.program import Program
from hearth.schemas.sections import Directory, Kind, Section
from hearth.schemas.upgrade import load_part
from hearth.schemas.weights_index import WeightsIndex

Check = Literal["structure", "full"]
HASHED_NBYTES = 64 << 20  # at once
GRAPH_KINDS = (Kind.GRAPH, Kind.ONNX, Kind.TENSORS)
T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Container:
    """A checked file of named sections, whatever they mean."""

    path: Path
    header: format.Header
    directory: Directory
    mapping: native.Mapping

    @cached_property
    def data(self) -> memoryview:
        """All bytes, where they are mapped."""
        return self.mapping.array().data

    @cached_property
    def entries(self) -> Mapping[str, Section]:
        """Every section by name, in order of offset."""
        return {section.name: section for section in self.directory.sections}

    def section(self, name: str) -> memoryview:
        """The bytes of a section: a view, never a copy."""
        entry = self.entries.get(name)
        if entry is None:
            raise format.missing(name, f"it among {', '.join(self.entries)[:500]}", str(self.path))
        return self.data[entry.offset : entry.end]

    def text(self, name: str) -> str | None:
        """An optional UTF-8 section, None where it is absent."""
        if name not in self.entries:
            return None
        try:
            return str(self.section(name), "utf-8")
        except UnicodeDecodeError as error:
            found = f"section {name!r} is not UTF-8: {error.reason}"
            raise format.refusal("schema", found, "text", str(self.path)) from None


@dataclass(frozen=True, eq=False)
class Archive(Container):
    """A compiled model: a container whose parts are decoded and agree with each other."""

    @cached_property
    def manifest(self) -> Manifest:
        return self._part(names.MANIFEST, Manifest)

    @cached_property
    def program(self) -> Program:
        return self._part(names.PROGRAM, Program)

    @cached_property
    def kv_layout(self) -> KVLayout:
        return self._part(names.KV_LAYOUT, KVLayout)

    @cached_property
    def weights_index(self) -> WeightsIndex:
        return self._part(names.WEIGHTS_INDEX, WeightsIndex)

    def weights(self, target: str | None = None) -> memoryview:
        """The packed weights of a target; of the first one where none is named."""
        return self.section(names.weights_section(target or self.manifest.targets[0]))

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256, in hex, over what decides the results; sections added later do not change it."""
        weights = map(names.weights_section, self.manifest.targets)
        graph = (each.name for each in self.directory.sections if each.kind in GRAPH_KINDS)
        chosen = (names.MANIFEST, names.PROGRAM, names.KV_LAYOUT, *weights, *graph)
        text = "".join(f"{name} {self.entries[name].sha256.hex()}\n" for name in chosen)
        return hashlib.sha256(text.encode()).hexdigest()

    def parts(self) -> Parts:
        """Every part, decoded."""
        return Parts(
            self.manifest, self.program, self.kv_layout, self.weights_index,
            self.entries, self.header.version, str(self.path),
        )  # fmt: skip

    def _part(self, name: str, kind: type[T]) -> T:
        return load_part(kind, self.section(name), self.header.version, name, str(self.path))


def open_archive(path: str | os.PathLike[str], check: Check = "structure") -> Archive:
    """A compiled model. "structure" checks all but the weights' hashes, "full" those too."""
    container = open_container(path, check)
    archive = Archive(container.path, container.header, container.directory, container.mapping)
    check_consistency(archive.parts())
    return archive


def open_container(path: str | os.PathLike[str], check: Check = "structure") -> Container:
    """A file of sections, its structure and hashes checked, its contents not looked into."""
    if check not in ("structure", "full"):
        raise ValueError(f"check={check!r}, expected 'structure' or 'full'")
    place = Path(path)
    try:
        descriptor = os.open(place, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise unreadable(place, error) from None
    try:
        return read_container(descriptor, place, check)
    except OSError as error:
        raise unreadable(place, error) from None
    finally:
        os.close(descriptor)


def read_container(descriptor: int, path: Path, check: Check) -> Container:
    """The container in an open file."""
    container = map_container(descriptor, path)
    for section in container.directory.sections:
        if check == "full" or section.kind not in names.LARGE:
            check_hash(container, section)
    return container


def map_container(descriptor: int, path: Path) -> Container:
    """The container in an open file: its structure checked, no section hashed."""
    where = str(path)
    head = os.pread(descriptor, format.HEADER_NBYTES, 0)
    header = format.parse_header(head, where)
    format.check_extent(header, os.fstat(descriptor).st_size, where)
    mapping = native.Mapping(descriptor, header.file_nbytes)
    data = mapping.array().data
    directory = format.parse_directory(header, data[header.directory_offset :], where)
    layout.check_layout(header, directory.sections, data, where)
    return Container(path, header, directory, mapping)


def check_hash(
    container: Container, section: Section, advance: Callable[[int], None] | None = None
) -> None:
    """Refuses a section whose bytes are not those it was written with; `advance` hears of bytes hashed."""
    digest = hashlib.sha256()
    for start in range(section.offset, section.end, HASHED_NBYTES):
        piece = container.data[start : min(start + HASHED_NBYTES, section.end)]
        digest.update(piece)
        if advance is not None:
            advance(len(piece))
    if digest.digest() != section.sha256:
        what = f"section {section.name!r} has the SHA-256 {digest.hexdigest()}"
        where = str(container.path)
        raise format.refusal("section_hash", what, section.sha256.hex(), where)


def unfinished(descriptor: int, path: Path, sections: Iterable[Section], nbytes: int) -> Archive:
    """The sections a writer has put into the first `nbytes` of an open file, which has no header yet."""
    mapping = native.Mapping(descriptor, nbytes)
    header = format.Header(0, nbytes, nbytes, 0, bytes(16))
    return Archive(path, header, Directory({}, tuple(sections)), mapping)


def unreadable(path: Path, error: OSError) -> ArchiveError | ResourceError:
    """Why a file could not be opened or read."""
    if isinstance(error, FileNotFoundError | IsADirectoryError | NotADirectoryError):
        reason = (error.strerror or "not found").lower()
        remedy = "give the path of a .har file"
        return ArchiveError("archive.not_found", reason, where=str(path), remedy=remedy)
    reason = f"cannot be read: {error.strerror}"
    remedy = "check its permissions and the disk"
    return ResourceError("resource.unreadable", reason, where=str(path), remedy=remedy)
