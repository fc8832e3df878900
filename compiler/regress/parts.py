"""Which part of an archive changed: what a person would name, causes before consequences."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from hearth.runtime.diff.findings import Change
from hearth.schemas.sections import WEIGHTS_INDEX

ORDER = ("format", "manifest", "program", "tensors", "golden")
# Say no more than that something did.
SUMS = ("content", "nbytes", "offsets")
OFFSETS = "places of sections"


def by_part(changes: Iterable[Change]) -> Mapping[str, tuple[Change, ...]]:
    """Changes by part: those of ORDER, then sections that no such part explains.

    Only where nothing else changed is it the places of sections in the file.
    """
    found: dict[str, list[Change]] = {}
    for change in changes:
        head, _, rest = change.path.partition(".")
        found.setdefault(rest if head == "sections" else head, []).append(change)
    weights = [name for name in found if name.startswith("weights/")]
    explained = (*SUMS, *weights, WEIGHTS_INDEX) if "tensors" in found else SUMS
    named = [name for name in found if name not in explained]
    named.sort(key=lambda name: ORDER.index(name) if name in ORDER else len(ORDER))
    if not named:
        return {OFFSETS: tuple(found["offsets"])} if "offsets" in found else {}
    return {name: tuple(found[name]) for name in named}
