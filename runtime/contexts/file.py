"""The file of a saved context: a header of 64 bytes, a head (msgpack), keys and values; one checksum over all of it.

0        64                64-aligned          file bytes
| header | head (msgpack) | 0.. | keys, values |      (schemas/FORMAT.md)
"""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from hearth.runtime.archive.files import SYSTEM_FILES, Files, unwritable
from hearth.runtime.archive.output import Output
from hearth.schemas.context import CONTEXT_VERSION
from hearth.schemas.errors import ArchiveError, HearthError, ResourceError

Bytes = NDArray[np.uint8]

MAGIC = b"\x89HCX\r\n\x1a\n"
HEADER = struct.Struct(
    "<8sIIQQ32s"
)  # magic, version, CRC, bytes of the head, of keys and values, SHA-256
ALIGN = 64
READ_NBYTES = 4 << 20
MAX_HEAD_NBYTES = 64 << 20


@dataclass(frozen=True)
class Parts:
    """What a file holds."""

    head: bytes
    packed: Bytes


def write_parts(
    path: Path, head: bytes, nbytes: int, packed: Iterable[Bytes], files: Files = SYSTEM_FILES
) -> None:
    """Write aside, sync, then give the file its name: what stood there before stays until the new one is whole.

    `packed` are the keys and values, `nbytes` in all. A piece is hashed, and the next is made, while it is written.

    ResourceError `resource.disk_full`, `resource.unwritable`.
    """
    pad = bytes(-len(head) % ALIGN)
    body = chain((memoryview(head), memoryview(pad)), (part.data for part in packed))
    try:
        output = Output(path)
        try:
            digest = _write(output.descriptor, body, files)
            header = _header(len(head), nbytes, digest)
            files.pwrite(output.descriptor, memoryview(header), 0)
            files.fsync(output.descriptor)
            output.publish()
        finally:
            output.discard()
    except OSError as error:
        raise unwritable(path, error, HEADER.size + len(head) + len(pad) + nbytes) from None


def _write(descriptor: int, views: Iterable[memoryview], files: Files) -> bytes:
    """Everything after the header, on its way to the disk; its checksum, which is computed while it is written."""
    digest, at = hashlib.sha256(), HEADER.size
    with ThreadPoolExecutor(1, "hearth-context") as pool:
        written: Future[None] | None = None
        for view in views:
            if written is not None:
                written.result()
            written = pool.submit(_write_piece, descriptor, view, at, files)
            digest.update(view)
            at += view.nbytes
        if written is not None:
            written.result()
    return digest.digest()


def _write_piece(descriptor: int, view: memoryview, at: int, files: Files) -> None:
    if view.nbytes:
        files.pwrite(descriptor, view, at)
        files.write_back(descriptor, at, view.nbytes)


def _header(head: int, packed: int, digest: bytes) -> bytes:
    bare = HEADER.pack(MAGIC, CONTEXT_VERSION, 0, head, packed, digest)
    return HEADER.pack(MAGIC, CONTEXT_VERSION, crc32(bare), head, packed, digest)


def read_parts(path: Path) -> Parts:
    """Read all of a file into memory and check that it is what was written.

    ArchiveError `context.not_found`, `context.bad_magic`, `context.version`, `context.header`, `context.truncated`,
    `context.damaged`; ResourceError where the system refuses to read it.
    """
    try:
        with path.open("rb", buffering=0) as file:
            return _read(file.fileno(), path)
    except OSError as error:
        raise _unreadable(path, error) from None
    except MemoryError:
        raise ResourceError(
            "resource.memory",
            "there is no memory to read it",
            where=str(path),
            remedy="close other programs",
        ) from None


def _read(descriptor: int, path: Path) -> Parts:
    header = os.pread(descriptor, HEADER.size, 0)
    head_nbytes, packed_nbytes, digest = _parse(header, str(path))
    start = HEADER.size + head_nbytes + -head_nbytes % ALIGN
    found, expected = os.fstat(descriptor).st_size, start + packed_nbytes
    if found < expected:
        raise _truncated(found, expected, str(path))
    if found > expected:
        raise _damaged(f"{found - expected} bytes follow its end", "none", str(path))
    body = np.empty(expected - HEADER.size, np.uint8)
    got, found_digest = _fill(descriptor, body)
    if got < body.nbytes:
        raise _truncated(HEADER.size + got, expected, str(path))
    if found_digest != digest:
        raise _damaged(f"its SHA-256 is {found_digest.hex()}", digest.hex(), str(path))
    body.flags.writeable = False
    return Parts(body[:head_nbytes].tobytes(), body[start - HEADER.size :])


def _parse(header: bytes, where: str) -> tuple[int, int, bytes]:
    """Bytes of the head, of keys and values; the checksum."""
    if header[: len(MAGIC)] != MAGIC[: len(header)] or not header:
        raise ArchiveError(
            "context.bad_magic",
            f"the file begins with {header[:8].hex(' ') or 'nothing'}",
            expected="a context saved by hearth",
            where=where,
        )
    if len(header) < HEADER.size:
        raise _truncated(len(header), HEADER.size, where)
    magic, version, crc, head, packed, digest = HEADER.unpack(header)
    if version != CONTEXT_VERSION:
        raise ArchiveError(
            "context.version",
            f"a context of version {version}",
            expected=f"version {CONTEXT_VERSION}",
            where=where,
            remedy="update hearth, or begin the conversation anew",
        )
    if crc32(HEADER.pack(magic, version, 0, head, packed, digest)) != crc:
        raise ArchiveError(
            "context.header",
            "the header is damaged: its checksum differs",
            expected="the header as it was written",
            where=where,
            remedy="take another copy of the file",
        )
    if head > MAX_HEAD_NBYTES:
        raise _damaged(f"a head of {head} bytes", f"at most {MAX_HEAD_NBYTES}", where)
    return head, packed, digest


def _fill(descriptor: int, body: Bytes) -> tuple[int, bytes]:
    """Read what follows the header; how many bytes there were, and their checksum, which is computed meanwhile."""
    digest, view, got = hashlib.sha256(), body.data, 0
    with ThreadPoolExecutor(1, "hearth-context") as pool:
        while got < body.nbytes:
            piece = view[got : got + READ_NBYTES]
            count = os.preadv(descriptor, [piece], HEADER.size + got)
            if not count:
                break
            pool.submit(digest.update, piece[:count])
            got += count
    return got, digest.digest()


def _truncated(found: int, expected: int, where: str) -> ArchiveError:
    return ArchiveError(
        "context.truncated",
        f"the file has {found} bytes",
        expected=f"{expected}",
        where=where,
        remedy="take another copy of the file",
    )


def _damaged(found: str, expected: str, where: str) -> ArchiveError:
    return ArchiveError(
        "context.damaged",
        found,
        expected=expected,
        where=where,
        remedy="take another copy of the file",
    )


def _unreadable(path: Path, error: OSError) -> HearthError:
    if isinstance(error, FileNotFoundError | IsADirectoryError | NotADirectoryError):
        return ArchiveError(
            "context.not_found",
            (error.strerror or "not found").lower(),
            where=str(path),
            remedy="give the path of a saved context",
        )
    return ResourceError(
        "resource.unreadable",
        f"cannot be read: {error.strerror}",
        where=str(path),
        remedy="check its permissions and the disk",
    )
