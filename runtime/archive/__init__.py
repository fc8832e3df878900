"""One model in one file: strict reading, crash-safe writing and appending (schemas/FORMAT.md)."""

from hearth.runtime.archive.append import append
from hearth.runtime.archive.reader import Archive, open_archive
from hearth.runtime.archive.writer import ArchiveWriter

__all__ = ["Archive", "ArchiveWriter", "append", "open_archive"]
