"""The graphs behind an archive: its source after the recorded passes, with float and with stored weights."""

from __future__ import annotations

from pathlib import Path

from hearth.compiler import frontend
from hearth.compiler.frontend import SourceModel
from hearth.compiler.ir.graph import Graph
from hearth.compiler.job import options
from hearth.compiler.judge.stored import stored, with_weights
from hearth.compiler.passes import FLOAT_PASSES, run_passes
from hearth.compiler.provenance import as_recipe
from hearth.compiler.quantize import quantize
from hearth.runtime.archive import Archive
from hearth.schemas import sections
from hearth.schemas.errors import InputError
from hearth.schemas.manifest import ModelKind
from hearth.schemas.provenance import read_provenance
from hearth.schemas.recipe import make_recipe


def rebuilt(archive: Archive, source: Path) -> tuple[Graph, Graph]:
    """(float graph, the same with the archive's codes and its scheme of activations).

    Raises InputError input.not_source where the archive is no decoder or was compiled from another model.
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
    wanted = options(
        make_recipe(
            {**as_recipe(record.recipe), "source": str(source), "output": "-"}, "provenance record"
        ),
        frozenset(record.skipped_passes),
    )
    model = frontend.load(source, context=wanted.context, kv=wanted.scheme.kv)
    if not isinstance(model, SourceModel) or model.fingerprint != record.fingerprint:
        raise InputError(
            "input.not_source", "the archive was not compiled from this model", where=str(source),
            remedy=f"give the {record.source} that it was compiled from",
        )  # fmt: skip
    floats = run_passes(FLOAT_PASSES, model.graph, wanted.skip)
    return floats, quantize(with_weights(floats, stored(archive)), wanted.scheme)
