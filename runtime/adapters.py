"""Adapters: what an archive holds beside its weights, and which of it a sequence uses."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from hearth.schemas.errors import UsageError


@dataclass(frozen=True)
class AdapterUse:
    """An adapter by name, its products times `scale` (1: as it was trained; 0 is not the same as none, but close).

    UsageError `arguments.adapter` where the scale is not finite.
    """

    name: str
    scale: float = 1.0

    def __post_init__(self) -> None:
        if not math.isfinite(self.scale):
            raise UsageError(
                "arguments.adapter", f"a scale of {self.scale}", expected="a finite number"
            )

    @classmethod
    def parse(cls, text: str) -> AdapterUse:
        """NAME or NAME:SCALE, as the command line has it."""
        name, colon, scale = text.partition(":")
        try:
            return cls(name, float(scale) if colon else 1.0)
        except ValueError:
            raise UsageError(
                "arguments.adapter", f"the scale {scale!r}", expected="NAME or NAME:SCALE"
            ) from None


@dataclass(frozen=True)
class Adapter:
    """One adapter of an archive: the largest rank of its matrices, and the SHA-256 (hex) of its section."""

    name: str
    rank: int
    sha256: str


def check_known(use: AdapterUse | None, known: Iterable[str]) -> None:
    """UsageError `arguments.adapter` for a name that is not among those known."""
    names = list(known)
    if use is not None and use.name not in names:
        raise UsageError(
            "arguments.adapter",
            f"there is no adapter {use.name!r}",
            expected=f"one of {', '.join(names)}" if names else "none: this archive has none",
            remedy="hearth lora list shows the adapters of an archive, hearth lora add adds one",
        )
