"""Make an archive again from its provenance record: what `hearth verify --source` calls by entry point."""

from __future__ import annotations

from pathlib import Path

from hearth.compiler.calibrate.settings import calibrated_on
from hearth.compiler.conduct import Conduct
from hearth.compiler.job import options
from hearth.compiler.pipeline import compile_model
from hearth.compiler.provenance import as_recipe
from hearth.schemas.provenance import Provenance
from hearth.schemas.recipe import make_recipe


def recompile(
    source: Path, record: Provenance, output: Path, threads: int, calibration: Path | None = None
) -> None:
    """Compile `source` with the recorded recipe into `output`. Errors are those of `hearth compile`.

    `calibration` is the text that it was calibrated on, which a record names by its hash alone: UsageError
    usage.calibration where there is one and it is not given.
    """
    settings = as_recipe(record.recipe)
    if record.calibration is not None:
        used = calibrated_on(record.calibration, calibration, "hearth verify FILE --source SRC")
        settings |= {
            "calibration": str(used.text),
            "calibration_windows": used.windows,
            "calibration_context": used.context,
            "calibration_range": used.ranges,
        }
    recipe = make_recipe(
        {**settings, "source": str(source), "output": str(output)}, "provenance record"
    )
    skipped = frozenset(record.skipped_passes)
    compile_model(source, output, options(recipe, skipped), Conduct(threads))
