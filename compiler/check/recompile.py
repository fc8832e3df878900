"""Make an archive again from its provenance record: what `hearth verify --source` calls by entry point."""

from __future__ import annotations

from pathlib import Path

from hearth.compiler.job import options
from hearth.compiler.pipeline import compile_model
from hearth.compiler.provenance import as_recipe
from hearth.schemas.provenance import Provenance
from hearth.schemas.recipe import make_recipe


def recompile(
    source: Path, record: Provenance, output: Path, threads: int, calibration: Path | None = None
) -> None:
    """Compile `source` with the recorded recipe into `output`. Errors are those of `hearth compile`.

    `calibration` is the text that it was calibrated on, which a record names by its hash alone.
    """
    settings = as_recipe(record.recipe)
    facts = record.calibration
    if calibration is not None and facts is not None:
        settings |= {
            "calibration": str(calibration),
            "calibration_windows": facts.windows,
            "calibration_context": facts.context,
            "calibration_range": facts.ranges,
        }
    recipe = make_recipe(
        {**settings, "source": str(source), "output": str(output)}, "provenance record"
    )
    compile_model(
        source, output, options(recipe, frozenset(record.skipped_passes)), threads=threads
    )
