"""The signature of an archive: ed25519 over a digest of everything in it that is not the signature itself."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from hearth.schemas.sections import Kind, Section

DOMAIN = b"hearth archive signature 1\0"
UNSIGNED = (Kind.SIGNATURE, Kind.RETIRED)


@dataclass(frozen=True)
class Signature:
    """The section `signature`: the public key (32 bytes) and the signature (64 bytes) of RFC 8032, in hex."""

    algorithm: Literal["ed25519"]
    key: str
    signature: str


def signed_digest(version: int, features: Mapping[str, int], sections: Iterable[Section]) -> bytes:
    """SHA-256 over the domain, format version, required features and, sorted, what each section is and holds.

    Names and kinds hold neither spaces nor newlines, so that no two archives share these lines.
    """
    named = " ".join(sorted(features))
    lines = sorted(
        f"{section.name} {section.kind} {section.sha256.hex()}\n"
        for section in sections
        if section.kind not in UNSIGNED
    )
    text = f"format {version} features {named}\n" + "".join(lines)
    return hashlib.sha256(DOMAIN + text.encode()).digest()
