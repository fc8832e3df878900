"""The container's bytes: header and directory, made and taken apart as schemas/FORMAT.md lays them out."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from zlib import crc32

from hearth.schemas.codec import dumps, loads
from hearth.schemas.errors import ArchiveError
from hearth.schemas.sections import FEATURES, FORMAT_VERSION, Directory, Section

MAGIC = b"\x89HAR\r\n\x1a\n"
HEADER = struct.Struct(
    "<8sIIQQQQ16s"
)  # magic, version, CRC, features, file, directory, its bytes, its hash
HEADER_NBYTES = HEADER.size
DIRECTORY_ALIGNMENT = 64
MAX_DIRECTORY_NBYTES = 1 << 20
REWRITE = "the file is damaged; copy or compile it again"


@dataclass(frozen=True)
class Header:
    """The first 64 bytes. `file_nbytes` is the end of the archive: later bytes are an unfinished append."""

    features: int
    file_nbytes: int
    directory_offset: int
    directory_nbytes: int
    directory_hash: bytes
    version: int = FORMAT_VERSION

    def pack(self) -> bytes:
        parts = (
            self.features,
            self.file_nbytes,
            self.directory_offset,
            self.directory_nbytes,
            self.directory_hash,
        )
        crc = crc32(HEADER.pack(MAGIC, self.version, 0, *parts))
        return HEADER.pack(MAGIC, self.version, crc, *parts)


def align_up(value: int, to: int) -> int:
    """The next multiple of `to`."""
    return (value + to - 1) // to * to


def parse_header(data: bytes, where: str) -> Header:
    """The header of a file's first bytes; refuses what is no archive, is newer, or is damaged."""
    if data[: len(MAGIC)] != MAGIC[: len(data)]:
        raise ArchiveError(
            "archive.bad_magic",
            f"starts with {data[:8]!r}",
            expected=f"{MAGIC!r}",
            where=where,
            remedy="this is no Hearth archive; make one with `hearth compile`",
        )
    if len(data) < HEADER_NBYTES:
        raise ArchiveError(
            "archive.truncated",
            f"has {len(data)} bytes",
            expected="a header of 64 bytes",
            where=where,
            remedy=REWRITE,
        )
    _, version, crc, features, file_nbytes, offset, nbytes, digest = HEADER.unpack(data)
    if version != FORMAT_VERSION:
        remedy = "update hearth" if version > FORMAT_VERSION else "compile the model again"
        raise ArchiveError(
            "archive.version",
            f"has format version {version}",
            expected=f"version {FORMAT_VERSION}",
            where=where,
            remedy=remedy,
        )
    header = Header(features, file_nbytes, offset, nbytes, digest)
    if header.pack() != data:
        raise ArchiveError(
            "archive.header",
            f"the header's checksum is not {crc:#010x}",
            expected="an undamaged header",
            where=where,
            remedy=REWRITE,
        )
    return header


def check_extent(header: Header, size: int, where: str) -> None:
    """The directory is the last thing of the archive, and the file reaches as far as the header says."""
    if header.file_nbytes > size:
        raise ArchiveError(
            "archive.truncated",
            f"has {size} bytes",
            expected=f"{header.file_nbytes} bytes",
            where=where,
            remedy="the copy is incomplete; copy it again",
        )
    start, nbytes = header.directory_offset, header.directory_nbytes
    if start < HEADER_NBYTES or start + nbytes != header.file_nbytes:
        raise ArchiveError(
            "archive.bounds",
            f"the directory is at {start}..{start + nbytes}",
            expected=f"it to end the archive at {header.file_nbytes}",
            where=where,
            remedy=REWRITE,
        )
    if start % DIRECTORY_ALIGNMENT:
        raise ArchiveError(
            "archive.alignment",
            f"the directory is at {start}",
            expected="a multiple of 64",
            where=where,
            remedy=REWRITE,
        )
    if nbytes > MAX_DIRECTORY_NBYTES:
        raise ArchiveError(
            "archive.bounds",
            f"the directory has {nbytes} bytes",
            expected=f"at most {MAX_DIRECTORY_NBYTES}",
            where=where,
            remedy=REWRITE,
        )


def pack_directory(features: Mapping[str, int], sections: Sequence[Section]) -> bytes:
    """The directory's bytes."""
    data = dumps(Directory(features, tuple(sections)))
    if len(data) > MAX_DIRECTORY_NBYTES:
        raise ArchiveError(
            "archive.bounds",
            f"a directory of {len(sections)} sections has {len(data)} bytes",
            expected=f"at most {MAX_DIRECTORY_NBYTES}",
            remedy="write the archive anew",
        )
    return data


def parse_directory(header: Header, data: memoryview, where: str) -> Directory:
    """The directory of its bytes; refuses a wrong hash and features this reader does not know."""
    if truncated_hash(data) != header.directory_hash:
        raise ArchiveError(
            "archive.directory_hash",
            "the directory does not have the hash the header gives",
            expected=header.directory_hash.hex(),
            where=where,
            remedy=REWRITE,
        )
    directory = loads(Directory, data, "directory", where)
    _check_features(header.features, directory.features, where)
    return directory


def finish(
    features: Mapping[str, int], sections: Sequence[Section], offset: int
) -> tuple[bytes, Header]:
    """The directory at `offset` and the header that makes it the end of the archive."""
    directory = pack_directory(features, sections)
    bits = sum(1 << bit for bit in features.values())
    end = offset + len(directory)
    return directory, Header(bits, end, offset, len(directory), truncated_hash(directory))


def truncated_hash(data: bytes | memoryview) -> bytes:
    """The first 16 bytes of the SHA-256."""
    return hashlib.sha256(data).digest()[:16]


def _check_features(bits: int, names: Mapping[str, int], where: str) -> None:
    named = {bit: name for name, bit in names.items()}
    if len(named) != len(names) or {bit for bit in range(64) if bits >> bit & 1} != named.keys():
        raise ArchiveError(
            "archive.schema",
            f"directory.features {dict(names)} are not the header's bits {bits:#x}",
            expected="one name for each bit",
            where=where,
            remedy=REWRITE,
        )
    unknown = sorted(name for name, bit in names.items() if FEATURES.get(name) != bit)
    if unknown:
        known = ", ".join(FEATURES) or "none"
        raise ArchiveError(
            "archive.feature",
            f"needs the feature {', '.join(map(repr, unknown))}",
            expected=f"only features this runtime has ({known})",
            where=where,
            remedy="update hearth",
        )
