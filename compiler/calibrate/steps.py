"""The steps of a compile that look at a calibration text: maxima for smoothing, then statistics and codes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from hearth.compiler.calibrate.driver import ENTRY, F32, Calibrated, Job, calibrate, maxima
from hearth.compiler.calibrate.predict import Forecast, forecast
from hearth.compiler.calibrate.stages import every_row
from hearth.compiler.calibrate.tokens import Text, read_windows
from hearth.compiler.calibrate.work import Work, key_of
from hearth.compiler.conduct import Conduct
from hearth.compiler.frontend import SourceModel
from hearth.compiler.ir.graph import Graph
from hearth.compiler.job import Options
from hearth.compiler.memory import settle
from hearth.compiler.provenance import SourceHashes, versions
from hearth.compiler.quantize.schemes import Methods, Scheme
from hearth.compiler.transform import quieten_peaks, rotate, rotate_down, smooth_decoder
from hearth.compiler.transform.smooth_decoder import LEVELS
from hearth.compiler.tune.fit import tune
from hearth.compiler.tune.gradient import Network
from hearth.compiler.tune.rounding import roundings
from hearth.runtime.archive.files import disk_full, free_nbytes
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


def require_decoder(kind: ModelKind, scheme: Scheme) -> None:
    """Refuses for all else what only decoders have: UsageError calibration.kind."""
    if kind is not ModelKind.DECODER and (scheme.calibrated or scheme.methods != Methods()):
        raise UsageError(
            "calibration.kind",
            f"{scheme.methods.text} and {scheme.activations} activations for a model of kind {kind}",
            expected="a decoder",
            remedy="use --method rtn, --activations dynamic or none, and another --kv",
        )


def read_text(model: SourceModel, options: Options) -> Text | None:
    """The windows to calibrate on; None where nothing needs them."""
    require_decoder(model.kind, options.scheme)
    return None if options.calibration is None else read_windows(options.calibration, model)


def transformed(
    graph: Graph, scheme: Scheme, text: Text | None, progress: Progress, threads: int
) -> Graph:
    """The same function from constants that codes hold better: smoothed first, by maxima of the text, then rotated."""
    if scheme.methods.listens and text is not None:
        found = maxima(Job(graph, scheme, text.ids, threads=threads), progress)
        graph = _quietened(graph, scheme, found)
    return turned(graph, scheme)


def turned(graph: Graph, scheme: Scheme) -> Graph:
    """The rotations alone, which need no text."""
    if scheme.methods.quarot:
        graph = rotate(graph)
    return rotate_down(graph) if scheme.methods.rotate_down else graph


def _quietened(graph: Graph, scheme: Scheme, found: Mapping[str, F32]) -> Graph:
    levels = min(LEVELS, float(2 ** (scheme.weights.bits - 1) - 1))
    if scheme.methods.peaks:
        return quieten_peaks(graph, found, levels=levels)
    inputs = math.inf if scheme.activations == "none" else LEVELS
    norms = not scheme.methods.quarot  # else a rotation quiets their results
    return smooth_decoder(graph, found, norms=norms, levels=levels, inputs=inputs)


def expect(graph: Graph, options: Options, text: Text, threads: int) -> Forecast:
    """What `code` will take; ResourceError where the disk has no room, CheckpointError for what cannot be tuned."""
    job = _job(graph, options, text, threads)
    if options.scheme.methods.tune:
        Network(every_row(graph, ENTRY)[0])
    expected = forecast(job)
    _require_disk(_folder(options), expected.disk_nbytes)
    return expected


def code(
    source: Path,
    model: SourceModel,
    graph: Graph,
    options: Options,
    text: Text,
    expected: Forecast,
    conduct: Conduct,
) -> Coded:
    """Statistics and codes of a float graph; a compile that was killed is gone on with."""
    with SourceHashes(source, model.files) as hashes:
        files = hashes.result()
    work = Work(_folder(options), _key(model, options, text, files))
    job = _job(graph, options, text, conduct.threads)
    calibrated = calibrate(job, work, conduct.progress, expected.stages)
    if options.scheme.methods.tune:
        calibrated = _tuned(job, calibrated, conduct.progress)
    settle()
    return Coded(calibrated, text, work)


def _job(graph: Graph, options: Options, text: Text, threads: int) -> Job:
    ranges = options.calibration.ranges if options.calibration else "minmax"
    return Job(graph, options.scheme, text.ids, ranges, threads)


def _tuned(job: Job, calibrated: Calibrated, progress: Progress) -> Calibrated:
    """Under the activations and the cache of the archive to be."""
    coded, logits = calibrated.coded, every_row(job.graph, ENTRY)[0]
    rounded = roundings(job.scheme, coded, calibrated.statics)
    return replace(calibrated, coded=tune(logits, coded, job.ids, progress, roundings=rounded))


def _require_disk(folder: Path, needed: int) -> None:
    """What lies there of an earlier run counts as room."""
    above = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    free = free_nbytes(above)
    held = sum(path.stat().st_size for path in folder.iterdir()) if folder.is_dir() else 0
    if free is not None and needed > free + held:
        raise disk_full(folder, needed, "the work folder does not fit")


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
