"""The few file operations that writing needs, so that tests can stop the world between any two of them."""

from __future__ import annotations

import ctypes
import errno
import os
from pathlib import Path
from typing import Protocol

from hearth.schemas.errors import ResourceError

SYNC_FILE_RANGE_WRITE = 2  # linux/fs.h
FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class Files(Protocol):
    """Positional writes, syncs and cuts on an open file; all or an OSError.

    `write_back` only asks that bytes go to the disk from now on, so that there is less for `fsync` to wait for.
    """

    piece: int  # writes should begin and end at multiples of it

    def pwrite(self, descriptor: int, data: memoryview, offset: int) -> None: ...

    def write_back(self, descriptor: int, offset: int, nbytes: int) -> None: ...

    def fsync(self, descriptor: int) -> None: ...

    def truncate(self, descriptor: int, nbytes: int) -> None: ...


class SystemFiles:
    """The operating system's."""

    piece = 2 << 20  # a huge page

    def pwrite(self, descriptor: int, data: memoryview, offset: int) -> None:
        while data.nbytes:
            written = os.pwrite(descriptor, data, offset)
            data, offset = data[written:], offset + written

    def write_back(self, descriptor: int, offset: int, nbytes: int) -> None:
        sync_file_range = getattr(ctypes.CDLL(None), "sync_file_range", None)
        if sync_file_range is not None:  # Linux's alone
            int64 = ctypes.c_int64
            sync_file_range(descriptor, int64(offset), int64(nbytes), SYNC_FILE_RANGE_WRITE)

    def fsync(self, descriptor: int) -> None:
        os.fsync(descriptor)

    def truncate(self, descriptor: int, nbytes: int) -> None:
        os.ftruncate(descriptor, nbytes)


SYSTEM_FILES = SystemFiles()


def sync_directory(path: Path) -> None:
    """Makes a new name durable; where directories cannot be synced there is nothing to do."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)


def unwritable(path: Path, error: OSError, needed: int) -> ResourceError:
    """The user's words for a failed write: the disk is full, or the place cannot be written."""
    if error.errno in FULL:
        return disk_full(path, needed, error.strerror or "")
    return ResourceError(
        "resource.unwritable",
        f"cannot be written: {error.strerror}",
        where=str(path),
        remedy="choose another output, or make its folder and allow writing to it",
    )


def disk_full(path: Path, needed: int, reason: str) -> ResourceError:
    free = free_nbytes(path.parent)
    have = "" if free is None else f", {free} bytes are free"
    return ResourceError(
        "resource.disk_full",
        f"no room: {reason.lower()}{have}",
        where=str(path),
        expected=f"at least {needed} bytes for the whole archive",
        remedy="free some space or choose another disk",
    )


def free_nbytes(folder: Path) -> int | None:
    """What an ordinary user may still write there, None where unknown."""
    try:
        stat = os.statvfs(folder)
    except OSError:
        return None
    return stat.f_bavail * stat.f_frsize if stat.f_blocks else None  # /proc and the like count none
