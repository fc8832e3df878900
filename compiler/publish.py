"""The last steps of every compile: sections, golden vectors, the comparison with the source, provenance, the name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from hearth.compiler.check.accuracy import Accuracy
from hearth.compiler.check.golden import make_golden
from hearth.compiler.memory import settle
from hearth.compiler.package import Package, write_parts
from hearth.compiler.provenance import SourceHashes
from hearth.runtime.archive import Archive, ArchiveWriter
from hearth.runtime.loader import any_of
from hearth.runtime.model import Model
from hearth.runtime.progress import Progress, step
from hearth.runtime.verify.prompts import compute
from hearth.schemas import sections
from hearth.schemas.codec import dumps
from hearth.schemas.provenance import Provenance, SourceFile, write_provenance
from hearth.schemas.sections import Kind


@dataclass(frozen=True)
class Publication:
    """What becomes the archive `output`: all of it, or nothing.

    `source` is the path that was compiled, `files` what was read of it; `record` gives the provenance once those and
    the sections (SHA-256 in hex, by name) are hashed. `compare`, where it is to be compared with its source, runs the
    archive that is not finished yet and raises LimitError where a gate is missed; `judge`
    runs it after that. `prompt` is a system message whose keys and values are kept. `named`: its file needs a
    name before it is whole, for another library opens it.
    """

    source: Path
    output: Path
    package: Package
    files: tuple[Path, ...]
    record: Callable[[tuple[SourceFile, ...], Mapping[str, str]], Provenance]
    compare: Callable[[Archive], Accuracy] | None = None
    judge: Callable[[Archive], None] | None = None
    named: bool = False
    prompt: str | None = None


@dataclass(frozen=True)
class Published:
    """What was found on the way: remarks for the person who compiles, and the accuracy where it was asked for."""

    notes: tuple[str, ...]
    accuracy: Accuracy | None


def publish(made: Publication, progress: Progress, threads: int) -> Published:
    """Write, run, compare, record; the file gets its name at the end. `threads` (0: all cores) decides no byte."""
    with (
        ArchiveWriter(
            made.output,
            expected_nbytes=made.package.expected_nbytes,
            features=made.package.features,
            unnamed=not made.named,
        ) as writer,
        SourceHashes(made.source, made.files) as hashes,
    ):
        write_parts(writer, made.package, progress)
        settle()
        with step(progress, "golden vectors", 1) as advance:
            vectors = make_golden(writer.so_far(), threads)
            writer.add(sections.GOLDEN, Kind.GOLDEN, dumps(vectors.golden))
            advance(1)
        settle()
        if made.prompt is not None:
            _add_prompt(writer, made.prompt, progress, threads)
            settle()
        accuracy = None if made.compare is None else made.compare(writer.so_far())
        if made.judge is not None:
            settle()
            made.judge(writer.so_far())
        record = write_provenance(made.record(hashes.result(), writer.hashes))
        writer.add(sections.PROVENANCE, Kind.PROVENANCE, record)
    return Published(vectors.notes, accuracy)


def _add_prompt(writer: ArchiveWriter, text: str, progress: Progress, threads: int) -> None:
    """What reading it gives, by the very bytes just written."""
    with step(progress, "prompt", 1) as advance:
        model = any_of(writer.so_far(), threads or None)
        assert isinstance(model, Model)  # the pipeline asks for no other
        made = compute(model, text)
        writer.add(sections.PROMPT, Kind.PROMPT, dumps(made.prompt))
        writer.add(sections.PROMPT_KV, Kind.PROMPT_KV, made.packed)
        advance(1)
