"""Compile the source again with the recorded recipe and compare the archives section by section."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

from hearth.runtime.archive.content import RECORDS
from hearth.runtime.archive.reader import Container, open_container
from hearth.runtime.verify.subject import Recompile, Skip, Subject, mismatch
from hearth.schemas import sections
from hearth.schemas.errors import MissingError, ResourceError
from hearth.schemas.provenance import JUDGED, Provenance, read_provenance
from hearth.schemas.sections import Section

GROUP = "hearth.recompile"


def installed() -> Recompile:
    """The compiler's entry point: the runtime imports nothing of the compiler, which may not be here."""
    for point in metadata.entry_points(group=GROUP):
        try:
            found: Recompile = point.load()
        except ModuleNotFoundError:
            break
        return found
    raise MissingError(
        "missing.compiler",
        "--source compiles again, and the compiler is not installed",
        remedy='pip install "hearth[compiler]"',
    )


def compiled_again(subject: Subject) -> str:
    """Says how many sections are equal; refuses the first that is not. Temporary files go away."""
    wanted = subject.wanted
    if wanted.source is None:
        raise Skip("no --source was given")
    recompile = wanted.recompile or installed()
    with _folder(subject.path.absolute().parent) as folder:
        output = Path(folder) / "again.har"
        recompile(wanted.source, subject.provenance, output, wanted.threads, wanted.calibration)
        made = open_container(output)
        _compare(subject, made)
        return _words(subject.container, made)


def _folder(beside: Path) -> tempfile.TemporaryDirectory[str]:
    """A folder that goes away: on the archive's own disk, which has room for such a file, where it may be written."""
    place = beside if os.access(beside, os.W_OK) else None
    try:
        return tempfile.TemporaryDirectory(prefix="hearth-verify-", dir=place)
    except OSError as error:
        raise ResourceError(
            "resource.unwritable",
            f"there is no place for a temporary archive: {error.strerror}",
            where=str(beside),
            remedy="free some space, or set TMPDIR to a folder that can be written",
        ) from None


def _compare(subject: Subject, made: Container) -> None:
    different = [
        section.name
        for section in made.directory.sections
        if _hash(subject.container, section.name) != section.sha256
        and section.name != sections.PROVENANCE
    ]
    record = read_provenance(made.section(sections.PROVENANCE), str(made.path))
    facts = differing_facts(subject.provenance, record)
    if different or facts:
        what = [f"other bytes in {', '.join(different)}"] if different else []
        what += [f"another {fact}" for fact in facts]
        said = f"compiling the source again gives {'; '.join(what)}"
        raise mismatch("source", said, subject, _remedy(subject.provenance, record))


def _remedy(recorded: Provenance, made: Provenance) -> str:
    """What to do about it: a source that only has another name is not another source."""
    if made.source != recorded.source:
        return f"the source's name is in the archive: give it as {recorded.source!r}"
    return "give the source and the packages it was made of, or compile it again"


def differing_facts(recorded: Provenance, made: Provenance) -> Sequence[str]:
    """What the two records do not share, in words."""
    found = [
        f"{name} ({getattr(made, name)}, recorded {getattr(recorded, name)})"
        for name in ("hearth", "source", "fingerprint", "skipped_passes", "calibration")
        if getattr(made, name) != getattr(recorded, name)
    ]
    names = sorted({*made.packages, *recorded.packages})
    found += [
        f"version of {name} ({made.packages.get(name)}, recorded {recorded.packages.get(name)})"
        for name in names
        if made.packages.get(name) != recorded.packages.get(name)
    ]
    ours, theirs = ({file.name: file for file in each.files} for each in (made, recorded))
    found += [
        f"source file {name}"
        for name in sorted({*ours, *theirs})
        if ours.get(name) != theirs.get(name)
    ]
    found += [
        f"{name} in the recipe"
        for name in sorted({*made.recipe, *recorded.recipe})
        if not name.startswith(JUDGED) and made.recipe.get(name) != recorded.recipe.get(name)
    ]
    return found or ([] if made.arena == recorded.arena else ["memory plan"])


def _hash(container: Container, name: str) -> bytes | None:
    entry = container.entries.get(name)
    return None if entry is None else entry.sha256


def _words(container: Container, made: Container) -> str:
    def later(section: Section) -> bool:
        return section.name not in made.entries and section.kind not in RECORDS

    added = [section.name for section in container.directory.sections if later(section)]
    more = f"; added later, and not compared: {', '.join(added)}" if added else ""
    return f"all {len(made.entries)} sections are equal{more}"
