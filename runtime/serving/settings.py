"""How archives are served, as the command line says."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from hearth.runtime.generation.writing import Full
from hearth.runtime.options import Options
from hearth.runtime.serving.pacing import GAP_S


@dataclass(frozen=True)
class Settings:
    """How archives are loaded and how long they stay (seconds after the last use; inf: for ever)."""

    options: Options = field(default_factory=Options)
    keep_alive_s: float = math.inf
    rows: int = 8
    queue: int = 64
    prefix_nbytes: int = 256 << 20
    gap_s: float = GAP_S  # what a step may take that reads prompts beside rows that write
    draft: str | None = None  # what guesses tokens: "lookup", or the path of a smaller archive
    full: Full = Full.STOP  # what a full context means where a request does not say
    drain_s: float = 10.0  # how long a scheduler may go on with what it has when it is closed
