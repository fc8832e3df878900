"""Append sections to an archive: a crash at any moment leaves the old archive or the new one, whole.

New sections and a new directory go behind the old end and are synced; then one write of the header makes
them the archive. The directory replaced stays as a section of kind "retired", and so does a section that is
replaced, so there are no holes.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
from collections.abc import Collection, Iterable
from itertools import count
from pathlib import Path

from hearth.runtime.archive.files import SYSTEM_FILES, Files, unwritable
from hearth.runtime.archive.format import refusal
from hearth.runtime.archive.reader import Container, read_container, unreadable
from hearth.runtime.archive.sections import Chunk, SectionStream
from hearth.schemas.errors import ResourceError
from hearth.schemas.sections import FORMAT_VERSION, Kind, Section

NewSection = tuple[str, str, Chunk | Iterable[Chunk]]


def append(
    path: str | os.PathLike[str],
    sections: Iterable[NewSection],
    files: Files = SYSTEM_FILES,
    *,
    replace: Collection[str] = (),
) -> None:
    """Adds (name, kind, data) sections to the archive at `path`; a failure leaves it as it was.

    Sections named in `replace` are retired; a name that is there already is refused otherwise.
    """
    place = Path(path)
    try:
        descriptor = os.open(place, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise unreadable(place, error) from None
    except OSError as error:
        raise unwritable(place, error, 0) from None
    try:
        _lock(descriptor, place)
        _append(descriptor, _read(descriptor, place), sections, files, replace)
    finally:
        _unlock(descriptor)  # the mapping, too, keeps the open file and with it the lock
        os.close(descriptor)


def _append(
    descriptor: int,
    old: Container,
    sections: Iterable[NewSection],
    files: Files,
    replace: Collection[str],
) -> None:
    end = old.header.file_nbytes
    stream = SectionStream(old.path, descriptor, files, end, _kept(old, replace))
    try:
        files.truncate(descriptor, end)  # what an unfinished append left
        for name, kind, data in sections:
            _check_version(old, kind)
            stream.add(name, kind, data)
        header = stream.finish(old.directory.features, old.header.version)
    except BaseException:
        with contextlib.suppress(OSError):
            files.truncate(descriptor, end)
        raise
    stream.write_header(header)


def _check_version(old: Container, kind: str) -> None:
    """An old archive stays of its version: what that version writes otherwise cannot be added to it."""
    version = old.header.version
    if version != FORMAT_VERSION and kind in (Kind.MANIFEST, Kind.PROGRAM):
        found = f"has format version {version}, whose {kind} cannot be replaced"
        remedy = "compile the model again with this version of hearth"
        raise refusal("version", found, f"version {FORMAT_VERSION}", str(old.path), remedy)


def _read(descriptor: int, path: Path) -> Container:
    try:
        return read_container(descriptor, path, "structure")
    except OSError as error:
        raise unreadable(path, error) from None


def _kept(old: Container, replace: Collection[str]) -> list[Section]:
    """The old sections, those that are replaced retired, and the old directory as one more."""
    numbers = count(1 + sum(section.kind == Kind.RETIRED for section in old.directory.sections))

    def retired(offset: int, nbytes: int, sha256: bytes) -> Section:
        return Section(f"retired/{next(numbers)}", Kind.RETIRED, offset, nbytes, sha256)

    kept = [
        retired(each.offset, each.nbytes, each.sha256) if each.name in replace else each
        for each in old.directory.sections
    ]
    start, nbytes = old.header.directory_offset, old.header.directory_nbytes
    digest = hashlib.sha256(old.data[start : start + nbytes]).digest()
    return [*kept, retired(start, nbytes, digest)]


def _unlock(descriptor: int) -> None:
    with contextlib.suppress(OSError):
        fcntl.flock(descriptor, fcntl.LOCK_UN)


def _lock(descriptor: int, path: Path) -> None:
    """One append at a time."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        remedy = "wait until it is done"
        found = "another process is appending to it"
        raise ResourceError("resource.busy", found, where=str(path), remedy=remedy) from None
    except OSError:
        return  # a filesystem without locks
