"""How a compile is carried out: with what, who hears of it, and what the archive must withstand."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from hearth.compiler.check.accuracy import Accuracy
from hearth.compiler.check.inputs import CheckOptions
from hearth.compiler.dump import DumpOptions
from hearth.compiler.frontend import SourceModel
from hearth.compiler.memory import Prediction, require
from hearth.runtime.archive import Archive
from hearth.runtime.progress import Progress, Silent
from hearth.schemas.provenance import Setting

Announce = Callable[[SourceModel, Prediction], None]


@dataclass(frozen=True, eq=False)
class Conduct:
    """None of it decides a byte of the archive, but for what `judge` has the record say.

    `threads` 0: all cores. `announce` hears the predicted memory before a long part starts. With `checked` the archive
    is compared with its source before it gets its name, and `compared` hears of it; one that misses the gate is not
    kept. `judge` gets the archive and its bits per weight, and gives what its record says of them.
    """

    threads: int = 0
    progress: Progress = field(default_factory=Silent)
    announce: Announce | None = None
    dump: DumpOptions = field(default_factory=DumpOptions)
    checked: CheckOptions | None = None
    compared: Callable[[Accuracy], None] | None = None
    judge: Callable[[Archive, float], Mapping[str, Setting]] | None = None


QUIET = Conduct()


def announced(model: SourceModel, prediction: Prediction, conduct: Conduct) -> Prediction:
    """Says what will be needed; ResourceError resource.memory where it is not there."""
    if conduct.announce is not None:
        conduct.announce(model, prediction)
    require(prediction)
    return prediction
