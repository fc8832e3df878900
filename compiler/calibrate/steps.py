"""The steps of a compile that look at a calibration text: maxima for smoothing, then statistics and codes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from hearth.compiler.calibrate.driver import Calibrated, Job, calibrate
from hearth.compiler.calibrate.tokens import Text, read_windows
from hearth.compiler.calibrate.work import Work, key_of
from hearth.compiler.frontend import SourceModel
from hearth.compiler.ir.ops import Graph
from hearth.compiler.job import Options
from hearth.compiler.provenance import SourceHashes, versions
from hearth.runtime.progress import Progress
from hearth.schemas import __version__
from hearth.schemas.codec import encode
from hearth.schemas.errors import UsageError
from hearth.schemas.manifest import ModelKind
from hearth.schemas.provenance import SourceFile


@dataclass(frozen=True, eq=False)
class Coded:
    """What calibration gave, on which text, and the folder to remove once the archive is there."""

    calibrated: Calibrated
    text: Text
    work: Work


def read_text(model: SourceModel, options: Options) -> Text | None:
    """The windows to calibrate on; None where nothing needs them. UsageError calibration.kind: no decoder."""
    if options.calibration is None:
        return None
    if model.kind is not ModelKind.DECODER:
        raise UsageError(
            "calibration.kind",
            f"{options.scheme.methods.text} and {options.scheme.activations} activations for an {model.kind}",
            expected="a decoder",
            remedy="use --method rtn and --activations dynamic or none",
        )
    return read_windows(options.calibration, model)


def code(
    source: Path,
    model: SourceModel,
    graph: Graph,
    options: Options,
    text: Text,
    progress: Progress,
    threads: int,
) -> Coded:
    """Statistics and codes of a float graph; a compile that was killed is gone on with."""
    with SourceHashes(source, model.files) as hashes:
        files = hashes.result()
    work = Work(_folder(options), _key(model, options, text, files))
    job = Job(graph, options.scheme, text.ids, threads)
    return Coded(calibrate(job, work, progress), text, work)


def _folder(options: Options) -> Path:
    if options.work is None:
        raise ValueError("calibration needs a work folder")
    return options.work


def _key(model: SourceModel, options: Options, text: Text, files: tuple[SourceFile, ...]) -> str:
    """Of all that decides codes: sources, scheme, text, passes, and the versions of what computes."""
    return key_of(
        {
            "hearth": __version__,
            "packages": versions(("numpy", "onnxruntime")),
            "fingerprint": model.fingerprint,
            "files": encode(files),
            "scheme": repr(options.scheme),
            "skip": sorted(options.skip),
            "text": encode(text.facts),
            "context": model.context,
        }
    )
