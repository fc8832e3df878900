"""Two archives: their sections paired by name, each pair compared."""

from __future__ import annotations

import os
from collections.abc import Iterator

from hearth.runtime.archive import Archive
from hearth.runtime.archive.content import content_hash
from hearth.runtime.archive.reader import Check, open_archive
from hearth.runtime.diff.findings import ArchiveDiff, SectionDiff, Side, State
from hearth.runtime.diff.sections import Pair, compare, one_sided
from hearth.runtime.progress import Progress, Silent
from hearth.schemas.sections import Kind, Section


def diff(
    a: str | os.PathLike[str],
    b: str | os.PathLike[str],
    check: Check = "structure",
    progress: Progress | None = None,
) -> ArchiveDiff:
    """What differs between two archives of any format version. check="full" hashes the weights first.

    Memory is bounded: weights are read batch by batch. Directories that appends have retired are not compared.
    """
    ours, theirs = open_archive(a, check), open_archive(b, check)
    return compare_archives(ours, theirs, progress or Silent())


def compare_archives(a: Archive, b: Archive, progress: Progress) -> ArchiveDiff:
    """The same for archives that are open."""
    return ArchiveDiff(_side(a), _side(b), tuple(_sections(a, b, progress)))


def _side(archive: Archive) -> Side:
    header, sections = archive.header, archive.directory.sections
    return Side(archive.path.name, header.version, content_hash(sections), header.file_nbytes)


def _sections(a: Archive, b: Archive, progress: Progress) -> Iterator[SectionDiff]:
    ours, theirs = _live(a), _live(b)
    partner = _partners(ours, theirs)
    for name, section in ours.items():
        if name in partner:
            yield compare(Pair(a, b, section, theirs[partner[name]], progress))
        else:
            yield one_sided(section, State.REMOVED)
    taken = set(partner.values())
    yield from (one_sided(theirs[name], State.ADDED) for name in theirs if name not in taken)


def _live(archive: Archive) -> dict[str, Section]:
    live = (each for each in archive.directory.sections if each.kind != Kind.RETIRED)
    return {section.name: section for section in live}


def _partners(a: dict[str, Section], b: dict[str, Section]) -> dict[str, str]:
    """By name; the weights of one target beside those of another where each archive has but one."""
    found = {name: name for name in a if name in b}
    left, right = (
        [name for name, each in side.items() if each.kind == Kind.WEIGHTS and name not in found]
        for side in (a, b)
    )
    if len(left) == len(right) == 1:
        found[left[0]] = right[0]
    return found
