"""The container's bytes: header and directory, made and taken apart as schemas/FORMAT.md lays them out."""

from __future__ import annotations

import hashlib
import reprlib
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from zlib import crc32

from hearth.schemas.codec import dumps, loads
from hearth.schemas.errors import ArchiveError
from hearth.schemas.sections import FEATURES, FORMAT_VERSION, Directory, Section
from hearth.schemas.upgrade import VERSIONS

MAGIC = b"\x89HAR\r\n\x1a\n"
# magic, version, CRC, features, file bytes, directory offset, directory bytes, directory hash
HEADER = struct.Struct("<8sIIQQQQ16s")
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


def refusal(
    code: str, found: str, expected: str, where: str, remedy: str = REWRITE
) -> ArchiveError:
    """The error archive.<code> about the file `where`."""
    return ArchiveError(f"archive.{code}", found, expected=expected, where=where, remedy=remedy)


def missing(name: str, expected: str, where: str) -> ArchiveError:
    """A section that should be there."""
    remedy = "compile the model again with this version of hearth"
    return refusal("missing_section", f"has no section {name!r}", expected, where, remedy)


def parse_header(data: bytes, where: str) -> Header:
    """The header of a file's first bytes; refuses what is no archive, is newer, or is damaged."""
    if data[: len(MAGIC)] != MAGIC[: len(data)]:
        remedy = "this is no Hearth archive; make one with `hearth compile`"
        raise refusal("bad_magic", f"starts with {data[:8]!r}", repr(MAGIC), where, remedy)
    if len(data) < HEADER_NBYTES:
        remedy = "the copy is incomplete; copy it again"
        found, expected = f"has {len(data)} bytes", f"a header of {HEADER_NBYTES} bytes"
        raise refusal("truncated", found, expected, where, remedy)
    _, version, crc, features, file_nbytes, offset, nbytes, digest = HEADER.unpack(data)
    if version not in VERSIONS:
        remedy = "update hearth" if version > FORMAT_VERSION else "compile the model again"
        found, expected = f"has format version {version}", f"one of {', '.join(map(str, VERSIONS))}"
        raise refusal("version", found, expected, where, remedy)
    header = Header(features, file_nbytes, offset, nbytes, digest, version)
    if header.pack() != data:
        found = f"the header's checksum is not {crc:#010x}"
        raise refusal("header", found, "an undamaged header", where)
    return header


def check_extent(header: Header, size: int, where: str) -> None:
    """The directory is the last thing of the archive, and the file reaches as far as the header says."""
    start, nbytes, end = header.directory_offset, header.directory_nbytes, header.file_nbytes
    if end > size:
        remedy = "the copy is incomplete; copy it again"
        raise refusal("truncated", f"has {size} bytes", f"{end} bytes", where, remedy)
    if start < HEADER_NBYTES or start + nbytes != end:
        found = f"the directory is at {start}..{start + nbytes}"
        raise refusal("bounds", found, f"it to end the archive at {end}", where)
    if start % DIRECTORY_ALIGNMENT:
        raise refusal("alignment", f"the directory is at {start}", "a multiple of 64", where)
    if nbytes > MAX_DIRECTORY_NBYTES:
        found = f"the directory has {nbytes} bytes"
        raise refusal("bounds", found, f"at most {MAX_DIRECTORY_NBYTES}", where)


def pack_directory(features: Mapping[str, int], sections: Sequence[Section]) -> bytes:
    """The directory's bytes."""
    data = dumps(Directory(features, tuple(sections)))
    if len(data) > MAX_DIRECTORY_NBYTES:
        found = f"a directory of {len(sections)} sections has {len(data)} bytes"
        raise refusal(
            "bounds", found, f"at most {MAX_DIRECTORY_NBYTES}", "", "write the archive anew"
        )
    return data


def parse_directory(header: Header, data: memoryview, where: str) -> Directory:
    """The directory of its bytes; refuses a wrong hash and features this reader does not know."""
    if truncated_hash(data) != header.directory_hash:
        found = "the directory does not have the hash the header gives"
        raise refusal("directory_hash", found, header.directory_hash.hex(), where)
    directory = loads(Directory, data, "directory", where)
    _check_features(header.features, directory.features, where)
    return directory


def finish(
    features: Mapping[str, int],
    sections: Sequence[Section],
    offset: int,
    version: int = FORMAT_VERSION,
) -> tuple[bytes, Header]:
    """The directory at `offset` and the header that makes it the end of the archive."""
    directory = pack_directory(features, sections)
    bits = sum(1 << bit for bit in features.values())
    end = offset + len(directory)
    digest = truncated_hash(directory)
    return directory, Header(bits, end, offset, len(directory), digest, version)


def truncated_hash(data: bytes | memoryview) -> bytes:
    """The first 16 bytes of the SHA-256."""
    return hashlib.sha256(data).digest()[:16]


def _check_features(bits: int, names: Mapping[str, int], where: str) -> None:
    named = {bit: name for name, bit in names.items()}
    if len(named) != len(names) or {bit for bit in range(64) if bits >> bit & 1} != named.keys():
        found = (
            f"directory.features {reprlib.repr(dict(names))} are not the header's bits {bits:#x}"
        )
        raise refusal("schema", found, "one name for each bit", where)
    unknown = sorted(name for name, bit in names.items() if FEATURES.get(name) != bit)
    if unknown:
        found = f"needs the feature {', '.join(map(repr, unknown))[:200]}"
        expected = f"only features this runtime has ({', '.join(FEATURES) or 'none'})"
        raise refusal("feature", found, expected, where, "update hearth")
