"""Load an archive: map it, check it, bind its program to this CPU's kernels. Milliseconds, no copies."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

from hearth.runtime.archive import Archive, open_archive
from hearth.runtime.archive.reader import Check
from hearth.runtime.binding import NOWHERE, bind, checked_isa, checked_threads
from hearth.runtime.encoder import Encoder
from hearth.runtime.machine.affinity import Affinity
from hearth.runtime.machine.residence import make_resident
from hearth.runtime.machine.wishes import Machine, Wishes, machine
from hearth.runtime.model import Model
from hearth.schemas.errors import ArchiveError, UsageError
from hearth.schemas.manifest import ModelKind

if TYPE_CHECKING:
    from hearth.runtime.graphs.model import GraphModel


@dataclass(frozen=True)
class Loading:
    """How archives of one kind are loaded, and the entries they must have."""

    article: str
    call: str
    entries: tuple[str, ...]


KINDS: Mapping[ModelKind, Loading] = {
    ModelKind.DECODER: Loading("a", "load", ("prefill", "decode")),
    ModelKind.ENCODER: Loading("an", "load_encoder", ("main", "hidden")),
    ModelKind.GRAPH: Loading("a", "load_graph", ()),
}


def load(
    path: str | os.PathLike[str],
    threads: int | None = None,
    check: Check = "structure",
    isa: str | None = None,
    key: str | os.PathLike[str] | None = None,
    **wishes: Unpack[Wishes],
) -> Model:
    """A decoder ready to run, e.g. `load("qwen.har", threads=2, isa="avx2")`.

    `threads` defaults to the cores this process should use, `isa` is the highest instruction set to use and
    defaults to the best this CPU has; neither changes a bit of any result where the archive's kernels are
    exact. check="full" also verifies the hash of all weights (reads the whole file). `key` is the file of a public
    key (PEM) that must have signed the archive, which is checked in full then: ArchiveError signature.* otherwise.

    `wishes` (machine/wishes.py) say on which cores the threads stay and what becomes of the archive's pages: UsageError
    arguments.affinity, ResourceError resource.lock where that cannot be.

    The tokenizer is parsed on first use of text, not here: a vocabulary of 150,000 takes about 0.4 s.
    Raises ArchiveError `archive.kind` for an encoder or a graph.
    """
    here = machine(threads, isa, wishes)
    return model_of(_opened(path, check, key, here), here.threads, here.isa, here.affinity)


def load_encoder(
    path: str | os.PathLike[str],
    threads: int | None = None,
    check: Check = "structure",
    isa: str | None = None,
    key: str | os.PathLike[str] | None = None,
    **wishes: Unpack[Wishes],
) -> Encoder:
    """An encoder ready to run; arguments and errors as of `load`."""
    here = machine(threads, isa, wishes)
    return encoder_of(_opened(path, check, key, here), here.threads, here.isa, here.affinity)


def load_graph(
    path: str | os.PathLike[str],
    threads: int | None = None,
    check: Check = "structure",
    isa: str | None = None,
    key: str | os.PathLike[str] | None = None,
    **wishes: Unpack[Wishes],
) -> GraphModel:
    """A general graph ready to run; arguments and errors as of `load`. `isa` is that of its native parts."""
    here = machine(threads, isa, wishes)
    return graph_of(_opened(path, check, key, here), here.threads, here.isa, here.affinity)


def load_any(
    path: str | os.PathLike[str],
    threads: int | None = None,
    check: Check = "structure",
    isa: str | None = None,
    key: str | os.PathLike[str] | None = None,
    **wishes: Unpack[Wishes],
) -> Model | Encoder | GraphModel:
    """Whatever the archive is; `manifest.kind` of the result tells."""
    here = machine(threads, isa, wishes)
    return any_of(_opened(path, check, key, here), here.threads, here.isa, here.affinity)


def _opened(
    path: str | os.PathLike[str],
    check: Check,
    key: str | os.PathLike[str] | None,
    here: Machine,
) -> Archive:
    """Signed hashes say nothing of bytes that are not hashed."""
    archive = open_archive(path, check if key is None else "full")
    if key is not None:
        from hearth.runtime.signing import check_signature

        check_signature(archive, Path(key))
    make_resident(archive, here.residence, here.progress)
    return archive


def any_of(
    archive: Archive,
    threads: int | None = None,
    isa: str | None = None,
    affinity: Affinity = NOWHERE,
) -> Model | Encoder | GraphModel:
    """The model, encoder or graph of an archive that is open already."""
    match archive.manifest.kind:
        case ModelKind.DECODER:
            return model_of(archive, threads, isa, affinity)
        case ModelKind.ENCODER:
            return encoder_of(archive, threads, isa, affinity)
        case ModelKind.GRAPH:
            return graph_of(archive, threads, isa, affinity)


def model_of(
    archive: Archive,
    threads: int | None = None,
    isa: str | None = None,
    affinity: Affinity = NOWHERE,
) -> Model:
    """The decoder of an archive that is open already."""
    _check_kind(archive, ModelKind.DECODER)
    count = checked_threads(threads, affinity)
    return Model(archive, *bind(archive, count, checked_isa(isa), affinity))


def encoder_of(
    archive: Archive,
    threads: int | None = None,
    isa: str | None = None,
    affinity: Affinity = NOWHERE,
) -> Encoder:
    """The encoder of an archive that is open already."""
    _check_kind(archive, ModelKind.ENCODER)
    if affinity.by_phase:
        raise _strange_affinity("the affinity of a phase", ModelKind.ENCODER)
    count = checked_threads(threads, affinity)
    return Encoder(archive, *bind(archive, count, checked_isa(isa), affinity))


def graph_of(
    archive: Archive,
    threads: int | None = None,
    isa: str | None = None,
    affinity: Affinity = NOWHERE,
) -> GraphModel:
    """The graph of an archive that is open already. onnxruntime is imported here, if it has an ONNX part."""
    from hearth.runtime.graphs.model import graph_model_of

    _check_kind(archive, ModelKind.GRAPH)
    if affinity != NOWHERE:
        raise _strange_affinity("an affinity", ModelKind.GRAPH)
    return graph_model_of(archive, threads, isa)


def _strange_affinity(what: str, kind: ModelKind) -> UsageError:
    """Of what would do nothing, or not all that it says: onnxruntime's threads are its own."""
    return UsageError(
        "arguments.kind",
        f"{what} with an archive that is {KINDS[kind].article} {kind}",
        expected="an affinity of an encoder or a decoder, of a phase of a decoder",
        remedy="start the process on the cores (taskset) instead",
    )


def _check_kind(archive: Archive, kind: ModelKind) -> None:
    found, where = archive.manifest.kind, str(archive.path)
    if found is not kind:
        raise ArchiveError(
            "archive.kind",
            f"this archive is {KINDS[found].article} {found}",
            expected=f"{KINDS[kind].article} {kind}",
            where=where,
            remedy=f"load it with {KINDS[found].call}(), or any archive with load_any()",
        )
    missing = [name for name in KINDS[kind].entries if name not in archive.program.entries]
    if missing:
        raise ArchiveError(
            "archive.entry",
            f"the program has no entry {missing[0]!r}",
            expected=f"{' and '.join(KINDS[kind].entries)}, it has {', '.join(archive.program.entries)}",
            where=where,
            remedy="compile the model again with this version of hearth",
        )
