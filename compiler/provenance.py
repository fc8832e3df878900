"""What the provenance record says of a compile: hashes of the source's files, versions, the whole recipe."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any, Self

from hearth.compiler.frontend import SourceModel
from hearth.compiler.lower.plan import Plan
from hearth.compiler.lower.targets import Target
from hearth.compiler.package import Native
from hearth.compiler.quantize.schemes import Scheme, kv_name
from hearth.schemas import __version__
from hearth.schemas.errors import CheckpointError
from hearth.schemas.provenance import (
    JUDGED,
    ArenaFacts,
    CalibrationFacts,
    Provenance,
    Setting,
    SourceFile,
)

CHUNK_NBYTES = 1 << 20
# Packages whose version may change bytes of every archive: tables, tokenizer and template vectors.
ALWAYS = ("numpy", "tokenizers", "jinja2")
OF_ONNX = ("onnx", "onnxruntime")
OF_CALIBRATION = ("onnxruntime",)


@dataclass
class SourceHashes:
    """Hashes the source's files in a thread of its own while the archive is written; leaving the block ends it."""

    root: Path
    files: tuple[Path, ...]
    _stop: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Self:
        self._pool = ThreadPoolExecutor(1, "hash")
        self._found: Future[tuple[SourceFile, ...]] = self._pool.submit(self._all)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._pool.shutdown()

    def result(self) -> tuple[SourceFile, ...]:
        """All of them, by name; waits for the last."""
        return self._found.result()

    def _all(self) -> tuple[SourceFile, ...]:
        folder = (self.root if self.root.is_dir() else self.root.parent).resolve()
        found = {_name(path, folder): path for path in self.files}
        return tuple(self._one(name, found[name]) for name in sorted(found))

    def _one(self, name: str, path: Path) -> SourceFile:
        digest, nbytes = hashlib.sha256(), 0
        buffer = bytearray(CHUNK_NBYTES)
        try:
            with path.open("rb", buffering=0) as file:
                while (count := file.readinto(buffer)) and not self._stop.is_set():
                    digest.update(memoryview(buffer)[:count])
                    nbytes += count
        except OSError as error:
            raise CheckpointError(
                "checkpoint.unreadable",
                f"cannot be read: {error.strerror}",
                where=str(path),
                remedy="look at its permissions and at the disk",
            ) from None
        return SourceFile(name, nbytes, digest.hexdigest())


def _name(path: Path, folder: Path) -> str:
    """The place inside the source, the same wherever that lies."""
    whole = path.resolve()
    inside = whole.is_relative_to(folder)
    return whole.relative_to(folder).as_posix() if inside else path.name


def native_record(
    native: Native,
    files: tuple[SourceFile, ...],
    written: Mapping[str, str],
    skipped: Sequence[str],
    calibration: CalibrationFacts | None = None,
    judged: Mapping[str, Setting] = MappingProxyType({}),
    prompt: str | None = None,
) -> Provenance:
    """What made an archive that runs natively: equal inputs give equal records."""
    model = native.model
    calibrated = OF_CALIBRATION if calibration else ()
    return Provenance(
        hearth=__version__,
        packages=packages(is_onnx(model.files)) | versions(calibrated),
        source=native.source,
        fingerprint=model.fingerprint,
        files=files,
        recipe=recorded_recipe(native.scheme, native.target, model)
        | {f"{JUDGED}{name}": value for name, value in judged.items()}
        | ({} if prompt is None else {"prompt_cache": prompt}),
        skipped_passes=tuple(skipped),
        calibration=calibration,
        arena=arena_facts(native.lowered.plans),
        sections=written,
    )


def packages(of_onnx: bool) -> dict[str, str]:
    """The versions of the packages that decide bytes."""
    return versions((*ALWAYS, *OF_ONNX) if of_onnx else ALWAYS)


def versions(names: Iterable[str]) -> dict[str, str]:
    """The versions of packages by name."""
    return {name: metadata.version(name) for name in names}


def recorded_recipe(scheme: Scheme, target: Target, model: SourceModel) -> dict[str, Setting]:
    """The recipe that makes the same archive of the same source anywhere; all but the paths."""
    return {
        "weights": scheme.weights.name,
        "embeddings": scheme.embeddings.name,
        "group_size": scheme.weights.group or None,
        "activations": scheme.activations,
        "kv": kv_name(scheme.kv),
        "context": model.context or None,
        "pooling": None if model.embedding is None else model.embedding.pooling,
        "target": target.name,
        "method": scheme.methods.text,
        **{f"{TENSORS}{name}": own.written for name, own in scheme.overrides},
    }


TENSORS = "tensors."


def as_recipe(recorded: Mapping[str, Setting]) -> dict[str, Any]:
    """A recorded recipe as the data of one: what is not set left out, the weights' own schemes in a map."""
    kept = {name: value for name, value in recorded.items() if not name.startswith(JUDGED)}
    plain = {name: value for name, value in kept.items() if value is not None}
    own = {name: value for name, value in plain.items() if name.startswith(TENSORS)}
    left = {name: value for name, value in plain.items() if name not in own}
    tensors = {name.removeprefix(TENSORS): value for name, value in own.items()}
    return left | ({"tensors": tensors} if tensors else {})


def arena_facts(plans: Mapping[str, Plan]) -> Mapping[str, ArenaFacts]:
    """How tight each entry's memory plan is."""
    return {name: ArenaFacts(plan.nbytes, plan.lower_bound) for name, plan in plans.items()}


def is_onnx(files: Iterable[Path]) -> bool:
    """Whether the source is an ONNX model."""
    return any(path.suffix == ".onnx" for path in files)
