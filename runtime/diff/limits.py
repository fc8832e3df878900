"""Which differences are beyond what the caller allows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from hearth.runtime.archive.content import RECORDS
from hearth.runtime.diff.findings import ArchiveDiff, PartChange, SectionDiff, State, TensorDiff
from hearth.schemas.sections import GOLDEN, MANIFEST, Kind

# What other weights bring with them, and so is allowed where a limit on weights is.
FOLLOWS = f"{MANIFEST}.fingerprint", GOLDEN


@dataclass(frozen=True)
class Limits:
    """None: no limit was stated, so that there must be no difference.

    `codes` is the largest share of a tensor's codes (and multipliers, zero points) that may differ, `scale` the largest
    relative change of a scale, `rms` the largest relative RMS of what a tensor stands for: of plain floats the only
    bound. `ignored` are sections, or fields of one: `golden`, `manifest.fingerprint`.
    """

    codes: float | None = None
    scale: float | None = None
    rms: float | None = None
    ignored: tuple[str, ...] = ()

    @property
    def of_weights(self) -> bool:
        """Whether weights may differ at all."""
        return any(each is not None for each in (self.codes, self.scale, self.rms))


def beyond(found: ArchiveDiff, limits: Limits) -> tuple[str, ...]:
    """What is beyond the limits, by name: sections, fields, tensors. Empty: the archives are equal enough."""
    ignored = (*limits.ignored, *(FOLLOWS if limits.of_weights else ()))
    return tuple(name for section in found.sections for name in _beyond(section, limits, ignored))


def _beyond(section: SectionDiff, limits: Limits, ignored: tuple[str, ...]) -> Iterator[str]:
    if section.state is State.EQUAL or section.kind in RECORDS or section.name in ignored:
        return
    if section.kind == Kind.WEIGHTS and section.tensors and limits.of_weights:
        for tensor in section.tensors:
            if not tensor_within(tensor, limits):
                yield f"{section.name} {tensor.name}"
        return
    left = [
        change for change in section.changes if not _ignored(section.name, change.path, ignored)
    ]
    if left or len(section.changes) == 0:
        yield section.name


def _ignored(section: str, path: str, ignored: tuple[str, ...]) -> bool:
    """A field that is named, or lies inside one that is."""
    whole = f"{section}.{path}"
    return any(whole == name or whole.startswith((f"{name}.", f"{name}[")) for name in ignored)


def tensor_within(tensor: TensorDiff, limits: Limits) -> bool:
    """A bound on the RMS covers everything; without one, codes and scales keep to theirs."""
    if tensor.state is not State.CHANGED or tensor.form or tensor.values is None:
        return False
    parts = all(_part_within(part, limits) for part in tensor.parts)
    if limits.rms is None:
        return parts
    return tensor.values.relative_rms <= limits.rms and parts


def _part_within(part: PartChange, limits: Limits) -> bool:
    """What has no bound of its own is left to the RMS, where that has one."""
    match part.name:
        case "codes" | "multipliers" | "zero points" if limits.codes is not None:
            return part.changed <= limits.codes * part.total
        case "scales" if limits.scale is not None:
            return part.relative <= limits.scale
        case _:
            return limits.rms is not None
