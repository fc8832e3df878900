"""Sections lie in order, aligned, inside the file, without overlaps and with nothing but zeros between them."""

from __future__ import annotations

import re
from collections.abc import Sequence

from hearth.runtime.archive.format import (
    DIRECTORY_ALIGNMENT,
    HEADER_NBYTES,
    Header,
    align_up,
    refusal,
)
from hearth.schemas.sections import Section, alignment

NAME = re.compile(r"[a-z0-9][a-zA-Z0-9_.+/-]{0,127}")
KIND = re.compile(r"[a-z][a-z0-9_]{0,31}")


def check_layout(header: Header, sections: Sequence[Section], data: memoryview, where: str) -> None:
    """Refuses the first section that breaks a rule of schemas/FORMAT.md; reads only the padding."""
    end, seen = HEADER_NBYTES, set[str]()
    for section in sections:
        check_names(section, seen, where)
        _check_place(section, header, end, where)
        _check_padding(data, end, section.offset, repr(section.name), where)
        seen.add(section.name)
        end = section.end
    start = header.directory_offset
    if start != align_up(end, DIRECTORY_ALIGNMENT):
        raise refusal(
            "hole", f"{start - end} bytes lie before the directory", "padding to 64", where
        )
    _check_padding(data, end, start, "the directory", where)


def check_names(section: Section, seen: set[str], where: str) -> None:
    """Well-formed name and kind, a whole hash, no name twice."""
    if not NAME.fullmatch(section.name):
        raise refusal("schema", f"a section is named {section.name[:200]!r}", NAME.pattern, where)
    if not KIND.fullmatch(section.kind) or len(section.sha256) != 32:
        found = f"section {section.name!r}: kind {section.kind[:40]!r}, {len(section.sha256)} bytes of hash"
        raise refusal("schema", found, f"{KIND.pattern} and 32 bytes", where)
    if section.name in seen:
        raise refusal(
            "duplicate", f"two sections are named {section.name!r}", "distinct names", where
        )


def _check_place(section: Section, header: Header, end: int, where: str) -> None:
    name, start, align = section.name, section.offset, alignment(section.kind)
    if start < HEADER_NBYTES or section.end > header.directory_offset:
        expected = f"sections between {HEADER_NBYTES} and {header.directory_offset}"
        raise refusal("bounds", f"section {name!r} is at {start}..{section.end}", expected, where)
    if start < end:
        expected = f"at least {end}, where the section listed before it ends"
        raise refusal("overlap", f"section {name!r} starts at {start}", expected, where)
    if start % align:
        raise refusal(
            "alignment", f"section {name!r} is at {start}", f"a multiple of {align}", where
        )
    if start != align_up(end, align):
        expected = f"{align_up(end, align)}, right after the section before it"
        raise refusal("hole", f"section {name!r} starts at {start}", expected, where)


def _check_padding(data: memoryview, start: int, stop: int, before: str, where: str) -> None:
    padding = bytes(data[start:stop])
    if padding.strip(b"\0"):
        raise refusal("hole", f"the padding before {before} is not zero", "only zeros", where)
