"""Write an archive: all of it or nothing, the same bytes for the same sections."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from hearth.runtime.archive import format
from hearth.runtime.archive.files import SYSTEM_FILES, Files, disk_full, free_nbytes, unwritable
from hearth.runtime.archive.output import Output
from hearth.runtime.archive.reader import Archive, unfinished
from hearth.runtime.archive.sections import Chunk, SectionStream
from hearth.schemas.sections import Section


class ArchiveWriter:
    """`with ArchiveWriter(path) as writer: writer.add(...)`; the file appears when the block ends well.

    Any exception, KeyboardInterrupt included, leaves what was at `path` before and nothing else.
    `expected_nbytes`, where known, refuses at once what the disk cannot hold.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        expected_nbytes: int = 0,
        features: Mapping[str, int] | None = None,
        files: Files = SYSTEM_FILES,
        unnamed: bool = True,
    ) -> None:
        self.path = Path(path)
        self._expected, self._features = expected_nbytes, dict(features or {})
        self._files, self._unnamed = files, unnamed

    def __enter__(self) -> Self:
        free = free_nbytes(self.path.parent)
        if free is not None and self._expected > free:
            raise disk_full(self.path, self._expected, "the archive does not fit")
        try:
            self._output = Output(self.path, self._unnamed)
        except OSError as error:
            raise unwritable(self.path, error, self._expected) from error
        descriptor = self._output.descriptor
        self._stream = SectionStream(self.path, descriptor, self._files, format.HEADER_NBYTES)
        return self

    def add(self, name: str, kind: str, data: Chunk | Iterable[Chunk]) -> Section:
        """Writes the next section (its alignment follows from its kind); chunks are not kept."""
        return self._stream.add(name, kind, data)

    @property
    def nbytes(self) -> int:
        """Bytes written so far."""
        return self._stream.end

    @property
    def hashes(self) -> Mapping[str, str]:
        """SHA-256 (hex) of the sections written so far, by name."""
        return {section.name: section.sha256.hex() for section in self._stream.sections}

    def so_far(self) -> Archive:
        """What is written as an archive to read from, its bytes mapped; unchecked, for it was just made."""
        self._stream.flush()
        return unfinished(
            self._output.descriptor, self._output.place, self._stream.sections, self._stream.end
        )

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                self._publish()
        finally:
            self._output.discard()

    def _publish(self) -> None:
        self._stream.write_header(self._stream.finish(self._features))
        try:
            self._output.publish()
        except OSError as error:
            raise unwritable(self.path, error, self._stream.end) from error
