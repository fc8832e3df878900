"""Provenance: what an archive was made of and by what. JSON in the archive; no times, hosts or paths."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from hearth.schemas.codec import MAX_STRUCTURED_NBYTES, decode, encode
from hearth.schemas.errors import ArchiveError

Setting = str | int | float | bool | None
JUDGED = "judged."  # of a gate: its limits and what was measured, which decide no byte any more


@dataclass(frozen=True)
class SourceFile:
    """A file the compiler read: its place inside the source's folder, and the SHA-256 (hex) of all of it."""

    name: str
    nbytes: int
    sha256: str


@dataclass(frozen=True)
class ArenaFacts:
    """The plan of one entry: its bytes, and what no plan can go below."""

    nbytes: int
    lower_bound: int


@dataclass(frozen=True)
class CalibrationFacts:
    """What codes and ranges were found on: the SHA-256 (hex) of the text, and the tokens of it that were run.

    `ranges` says how static ranges were chosen; the methods stand in the recipe, onnxruntime's version in `packages`.
    """

    sha256: str
    windows: int
    context: int
    tokens: int
    ranges: str


@dataclass(frozen=True)
class Provenance:
    """One per archive.

    `recipe` holds every key that decides bytes, defaults filled in and "native" resolved, so that the archive can be
    made again, and under `JUDGED` what a gate asked and measured; `packages` the versions of those that decide bytes.
    `calibration` is None where none was needed.
    `sections` are the SHA-256 (hex) of every section that compile wrote
    but this one, by name.
    """

    hearth: str
    packages: Mapping[str, str]
    source: str
    fingerprint: str
    files: tuple[SourceFile, ...]
    recipe: Mapping[str, Setting]
    skipped_passes: tuple[str, ...]
    calibration: CalibrationFacts | None
    arena: Mapping[str, ArenaFacts]
    sections: Mapping[str, str]


def write_provenance(value: Provenance) -> bytes:
    """Equal values give equal bytes."""
    return json.dumps(encode(value), indent=1, sort_keys=True, ensure_ascii=False).encode()


def read_provenance(data: bytes | memoryview, where: str = "") -> Provenance:
    """The typed value of a section's bytes: ArchiveError archive.schema where they are none."""
    remedy = "the archive is damaged or was not written by hearth; compile it again"
    if len(data) > MAX_STRUCTURED_NBYTES:
        found, expected = f"provenance has {len(data)} bytes", f"at most {MAX_STRUCTURED_NBYTES}"
        raise ArchiveError("archive.schema", found, expected=expected, where=where, remedy=remedy)
    try:
        plain = json.loads(bytes(data))
    except (ValueError, RecursionError):
        raise ArchiveError(
            "archive.schema", "provenance is not JSON", where=where, remedy=remedy
        ) from None
    return decode(Provenance, plain, "provenance", where)
