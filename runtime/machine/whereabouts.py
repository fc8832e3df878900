"""Where a model's threads and pages really are, read back from the kernel."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from hearth.runtime.machine.affinity import spelled
from hearth.runtime.machine.residence import mapped_memory

if TYPE_CHECKING:
    from hearth.runtime.loaded import Loaded


def whereabouts(model: Loaded) -> dict[str, Any]:
    """As plain data: threads, what each entry that has run wished and its threads found, the archive's pages.

    `cores` are those wished for each thread (none: where the caller may be), `asked` tells whether a user named them.
    Of each thread `allowed` are the cores the kernel let it use in the last run, `ran_on` those it was seen on.
    """
    pages = mapped_memory(model.archive.mapping)
    return {
        "threads": model.threads,
        "affinity": dict(_entries(model)),
        "archive_memory": None if pages is None else asdict(pages),
    }


def _entries(model: Loaded) -> Iterator[tuple[str, Any]]:
    for name, number in model.entry_numbers.items():
        found = model.engine.whereabouts(number)
        if not any(allowed for allowed, _ in found):
            continue  # it has not run
        cores, asked = model.engine.placement(number)
        threads = [{"allowed": allowed, "ran_on": ran_on} for allowed, ran_on in found]
        yield name, {"asked": asked, "cores": cores, "threads": threads}


def whereabouts_text(found: dict[str, Any]) -> list[str]:
    """The same for people, a line a fact."""
    from hearth.runtime.commands.terminal import size

    lines = []
    for name, entry in found["affinity"].items():
        wish = " ".join(spelled(cores) for cores in entry["cores"]) or "any"
        where = ", ".join(
            f"{spelled(thread['allowed'])} (seen on {spelled(thread['ran_on'])})"
            for thread in entry["threads"]
        )
        kind = "asked" if entry["asked"] else "default"
        lines.append(f"{name}: {found['threads']} threads, cores {kind} {wish}, had {where}")
    if pages := found["archive_memory"]:
        lines.append(
            f"archive: {size(pages['resident_nbytes'])} of {size(pages['nbytes'])} resident,"
            f" {size(pages['huge_nbytes'])} in huge pages, {size(pages['locked_nbytes'])} locked"
        )
    return lines
