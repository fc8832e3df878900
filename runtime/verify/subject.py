"""The archive under verification: opened once, its parts read when a step asks for them."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from hearth.runtime.archive import Archive
from hearth.runtime.archive.content import content_hash
from hearth.runtime.archive.format import missing
from hearth.runtime.archive.reader import Container, map_container, unreadable
from hearth.runtime.progress import Progress, Silent
from hearth.runtime.text.tokenizer import Tokenizer, parse_tokenizer
from hearth.schemas import sections
from hearth.schemas.codec import loads
from hearth.schemas.errors import ArchiveError
from hearth.schemas.golden import Golden
from hearth.schemas.provenance import Provenance, read_provenance

# Makes an archive again: (source, provenance record, output, threads, calibration text).
Recompile = Callable[[Path, Provenance, Path, int, Path | None], None]


class Skip(Exception):
    """A step that has nothing to do, or that this machine cannot do: the text says why."""


CHANGED = "the archive was changed after it was compiled, or this machine computes otherwise; compile it again"


def mismatch(code: str, found: str, subject: Subject, remedy: str = CHANGED) -> ArchiveError:
    """The error verify.<code>: whole hashes, yet not what the compiler made, or not what this machine computes."""
    return ArchiveError(f"verify.{code}", found, where=subject.where, remedy=remedy)


@dataclass(frozen=True)
class Wanted:
    """What to verify beyond the archive itself, and with what."""

    threads: int
    isas: tuple[str, ...]
    key: Path | None = None
    source: Path | None = None
    calibration: Path | None = None  # the text that the source was calibrated on
    recompile: Recompile | None = None


@dataclass(frozen=True, eq=False)
class Subject:
    """Properties raise the HearthError of what is wrong with the part they read."""

    path: Path
    wanted: Wanted
    progress: Progress = Silent()  # noqa: RUF009 (it holds nothing)

    @cached_property
    def container(self) -> Container:
        """Structure checked, nothing hashed."""
        try:
            descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise unreadable(self.path, error) from None
        try:
            return map_container(descriptor, self.path)
        except OSError as error:
            raise unreadable(self.path, error) from None
        finally:
            os.close(descriptor)

    @cached_property
    def archive(self) -> Archive:
        """Its parts are decoded when they are asked for."""
        found = self.container
        return Archive(found.path, found.header, found.directory, found.mapping)

    @property
    def where(self) -> str:
        return str(self.path)

    @property
    def content_hash(self) -> str:
        return content_hash(self.container.directory.sections)

    @property
    def recorded(self) -> bool:
        """Whether archives of this format version carry golden vectors and a typed provenance record."""
        return self.container.header.version >= 2

    @cached_property
    def golden(self) -> Golden:
        """The vectors; Skip for an archive older than they are."""
        return loads(Golden, self._record(sections.GOLDEN), sections.GOLDEN, self.where)

    @cached_property
    def provenance(self) -> Provenance:
        """The record; Skip for an archive older than its form."""
        return read_provenance(self._record(sections.PROVENANCE), self.where)

    @cached_property
    def tokenizer(self) -> Tokenizer | None:
        """The archive's, None where it has none."""
        entries = self.archive.entries
        if sections.TOKENIZER not in entries:
            return None
        parts = (sections.TOKENIZER, sections.TOKENIZER_CONFIG)
        data, config = (
            bytes(self.archive.section(name)) if name in entries else None for name in parts
        )
        return parse_tokenizer(data or b"", config)

    def _record(self, name: str) -> memoryview:
        if not self.recorded:
            raise Skip(f"format version {self.container.header.version} has none")
        if name not in self.archive.entries:
            raise missing(name, "it in every archive of this format", self.where)
        return self.archive.section(name)
