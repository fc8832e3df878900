"""One number for what an archive holds, however it came to hold it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from hearth.schemas.sections import Kind, Section

RECORDS = (Kind.PROVENANCE, Kind.SIGNATURE, Kind.RETIRED)


def content_hash(sections: Iterable[Section]) -> str:
    """SHA-256 (hex) over name and hash of every section, sorted, but provenance, signature and retired directories."""
    lines = sorted(
        f"{section.name} {section.sha256.hex()}\n"
        for section in sections
        if section.kind not in RECORDS
    )
    return hashlib.sha256("".join(lines).encode()).hexdigest()
