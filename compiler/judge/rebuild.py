"""The graphs behind an archive: its source after what the record names, with float and with stored weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from hearth.compiler import frontend
from hearth.compiler.calibrate.settings import calibrated_on
from hearth.compiler.calibrate.steps import transformed
from hearth.compiler.calibrate.tokens import read_windows
from hearth.compiler.frontend import SourceModel
from hearth.compiler.ir.graph import Graph
from hearth.compiler.job import recipe_scheme
from hearth.compiler.judge.stored import stored, with_weights
from hearth.compiler.passes import FLOAT_PASSES, run_passes
from hearth.compiler.provenance import as_recipe
from hearth.compiler.quantize import quantize
from hearth.runtime.archive import Archive
from hearth.runtime.progress import Silent
from hearth.schemas import sections
from hearth.schemas.commands import KVScheme
from hearth.schemas.errors import InputError
from hearth.schemas.manifest import ModelKind
from hearth.schemas.provenance import read_provenance
from hearth.schemas.recipe import make_recipe


def rebuilt(
    archive: Archive, source: Path, calibration: Path | None = None, threads: int = 0
) -> tuple[Graph, Graph]:
    """(float graph, the same with the archive's codes and its scheme of activations; static ones stay floats).

    `calibration` is the text of a smoothed archive, whose factors come from it. Raises InputError input.not_source
    where the archive is no decoder or was compiled from another model, UsageError usage.calibration where that text
    is wanted and not given.
    """
    where = str(archive.path)
    if archive.manifest.kind is not ModelKind.DECODER:
        raise InputError(
            "input.not_source",
            f"this archive is a {archive.manifest.kind}",
            expected="a decoder",
            where=where,
        )
    record = read_provenance(archive.section(sections.PROVENANCE), where)
    recipe = make_recipe(
        {**as_recipe(record.recipe), "source": str(source), "output": "-"}, "provenance record"
    )
    scheme = recipe_scheme(recipe)
    if scheme.static:
        scheme = replace(scheme, activations="none", kv=KVScheme.F32)
    model = frontend.load(source, context=recipe.context, kv=scheme.kv)
    if not isinstance(model, SourceModel) or model.fingerprint != record.fingerprint:
        raise InputError(
            "input.not_source", "the archive was not compiled from this model", where=str(source),
            remedy=f"give the {record.source} that it was compiled from",
        )  # fmt: skip
    floats = run_passes(FLOAT_PASSES, model.graph, frozenset(record.skipped_passes))
    text = None
    if scheme.methods.listens and record.calibration is not None:
        command = "hearth noise FILE --source SRC --text TEXT"
        text = read_windows(calibrated_on(record.calibration, calibration, command), model)
    floats = transformed(floats, scheme, text, Silent(), threads)
    return floats, quantize(with_weights(floats, stored(archive)), scheme)
