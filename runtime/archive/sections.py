"""Stream sections to a file, one after the other: padding, chunks, a running hash."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hearth.runtime.archive import format, layout
from hearth.runtime.archive.files import Files, unwritable
from hearth.runtime.archive.pieces import Pieces
from hearth.schemas.errors import ArchiveError
from hearth.schemas.sections import FORMAT_VERSION, Section, alignment

Chunk = bytes | bytearray | memoryview | NDArray[Any]
BUFFERS = (bytes, bytearray, memoryview, np.ndarray)


class SectionStream:
    """Writes at `end`, which only grows; keeps the sections it wrote and those it was given.

    The last bytes may not be in the file before `flush` or `sync`.
    """

    def __init__(
        self, path: Path, descriptor: int, files: Files, end: int, sections: Iterable[Section] = ()
    ) -> None:
        self.path, self.descriptor, self.files = path, descriptor, files
        self.end = end
        self.sections = list(sections)
        self._pieces = Pieces(descriptor, files, end)

    def add(self, name: str, kind: str, data: Chunk | Iterable[Chunk]) -> Section:
        """Writes one section. `data` is one buffer or gives buffers in order, none of which is kept."""
        self._check_new(name, kind)
        start = format.align_up(self.end, alignment(kind))
        self._pad(start)
        digest = hashlib.sha256()
        chunks = (data,) if isinstance(data, BUFFERS) else data
        for chunk in chunks:
            view = flat(chunk)
            if view.nbytes:
                digest.update(view)
                self._write(view)
        section = Section(name, kind, start, self.end - start, digest.digest())
        self.sections.append(section)
        return section

    def finish(self, features: Mapping[str, int], version: int = FORMAT_VERSION) -> format.Header:
        """Writes the directory and syncs; the header to write is the result."""
        start = format.align_up(self.end, format.DIRECTORY_ALIGNMENT)
        self._pad(start)
        directory, header = format.finish(features, self.sections, start, version)
        self._write(memoryview(directory))
        self.sync()
        return header

    def write_header(self, header: format.Header) -> None:
        """One write of 64 bytes, synced: from here on the archive is what the header says."""
        try:
            self.files.pwrite(self.descriptor, memoryview(header.pack()), 0)
        except OSError as error:
            raise unwritable(self.path, error, header.file_nbytes) from error
        self.sync()

    def flush(self) -> None:
        """All up to `end` is in the file."""
        try:
            self._pieces.flush()
        except OSError as error:
            raise unwritable(self.path, error, self.end) from error

    def sync(self) -> None:
        self.flush()
        try:
            self.files.fsync(self.descriptor)
        except OSError as error:
            raise unwritable(self.path, error, self.end) from error

    def _check_new(self, name: str, kind: str) -> None:
        probe = Section(name, kind, 0, 0, bytes(32))
        try:
            layout.check_names(probe, {section.name for section in self.sections}, str(self.path))
        except ArchiveError as error:
            if error.code == "archive.duplicate":
                raise
            raise ValueError(str(error)) from error

    def _pad(self, to: int) -> None:
        if to > self.end:
            self._write(memoryview(bytes(to - self.end)))

    def _write(self, view: memoryview) -> None:
        try:
            self._pieces.write(view)
        except OSError as error:
            raise unwritable(self.path, error, self.end + view.nbytes) from error
        self.end += view.nbytes


def flat(chunk: Chunk) -> memoryview:
    """The bytes of a contiguous buffer."""
    view = memoryview(chunk.data if isinstance(chunk, np.ndarray) else chunk)
    return view.cast("B") if view.nbytes else memoryview(b"")
