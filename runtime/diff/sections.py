"""How sections of each kind are compared: a table of functions, the bytes' hashes first."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from difflib import unified_diff
from typing import Any

from hearth.runtime.archive import Archive
from hearth.runtime.diff.fields import field_changes, plain
from hearth.runtime.diff.findings import Change, SectionDiff, State
from hearth.runtime.diff.program import Named, program_changes
from hearth.runtime.diff.tensors import Weights, tensor_diffs
from hearth.runtime.diff.tokenizer import parse, tokenizer_changes
from hearth.runtime.progress import Progress, step
from hearth.schemas import sections
from hearth.schemas.codec import loads
from hearth.schemas.golden import Golden
from hearth.schemas.graph import Plan
from hearth.schemas.lora import Linears, Lora
from hearth.schemas.prompt import Prompt
from hearth.schemas.sections import Kind, Section

UNREADABLE = "the bytes differ, and one of the two cannot be read as what it is"


@dataclass(frozen=True)
class Pair:
    """The sections of two archives that belong together."""

    a: Archive
    b: Archive
    ours: Section
    theirs: Section
    progress: Progress

    def bytes(self) -> tuple[memoryview, memoryview]:
        return self.a.section(self.ours.name), self.b.section(self.theirs.name)


# Fills in what differs; the state says that something does.
Compare = Callable[[SectionDiff, Pair], SectionDiff]


def compare(pair: Pair) -> SectionDiff:
    """One section of both."""
    ours, theirs = pair.ours, pair.theirs
    hashes = ours.sha256.hex(), theirs.sha256.hex()
    nbytes = ours.nbytes, theirs.nbytes
    state = State.EQUAL if hashes[0] == hashes[1] else State.CHANGED
    base = SectionDiff(ours.name, ours.kind, state, nbytes, hashes)
    if state is State.EQUAL:
        return base
    known = ours.kind == theirs.kind and ours.kind in KINDS
    return KINDS[ours.kind](base, pair) if known else replace(base, note="the bytes differ")


def one_sided(section: Section, state: State) -> SectionDiff:
    """A section that one of the archives lacks."""
    left = state is State.REMOVED
    sizes = (section.nbytes, None) if left else (None, section.nbytes)
    digest = section.sha256.hex()
    hashes = (digest, None) if left else (None, digest)
    return SectionDiff(section.name, section.kind, state, sizes, hashes)


def with_changes(base: SectionDiff, changes: Iterable[Change]) -> SectionDiff:
    """What was found; other bytes without a change mean the same."""
    found = tuple(changes)
    if found:
        return replace(base, changes=found)
    return replace(base, state=State.SAME, note="other bytes, the same meaning")


def typed(read: Callable[[Archive], Any]) -> Compare:
    """A part that the archive decodes, older formats brought up to date."""

    def compare_typed(base: SectionDiff, pair: Pair) -> SectionDiff:
        ours, theirs = plain(read(pair.a)), plain(read(pair.b))
        return with_changes(base, field_changes(ours, theirs))

    return compare_typed


def part(name: str, kind: type) -> Callable[[Archive], Any]:
    """A part in msgpack."""
    return lambda archive: loads(kind, archive.section(name), name, str(archive.path))


def compare_program(base: SectionDiff, pair: Pair) -> SectionDiff:
    """Commands aligned as sequences."""
    ours, theirs = (Named.of(each.program, each.weights_index) for each in (pair.a, pair.b))
    return with_changes(base, program_changes(ours, theirs))


def compare_index(base: SectionDiff, pair: Pair) -> SectionDiff:
    """Tensors by name; that they moved is one line."""
    ours, theirs = (
        {tensor.name: plain(tensor) for tensor in each.weights_index.tensors}
        for each in (pair.a, pair.b)
    )
    found = list(field_changes(ours, theirs))
    moved = [change for change in found if change.path.endswith(".offset")]
    note = f"{len(moved)} tensors lie elsewhere" if moved else ""
    changes = [_by_name(change) for change in found if change not in moved]
    return replace(with_changes(base, changes) if changes or not moved else base, note=note)


def _by_name(change: Change) -> Change:
    """A tensor that only one has: its shape says enough."""
    before, after = (
        each["shape"] if isinstance(each, dict) else each for each in (change.before, change.after)
    )
    return Change(change.path, before, after)


def compare_weights(base: SectionDiff, pair: Pair) -> SectionDiff:
    """Tensor by tensor."""
    ours, theirs = (
        Weights(data, archive.weights_index)
        for data, archive in zip(pair.bytes(), (pair.a, pair.b), strict=True)
    )
    with step(pair.progress, "compare weights", pair.ours.nbytes) as advance:
        found = tuple(tensor_diffs(ours, theirs, advance))
    if found:
        return replace(base, tensors=found, note=f"of {len(ours.tensors())} tensors")
    return replace(base, state=State.SAME, note="the same tensors at other places")


def compare_text(base: SectionDiff, pair: Pair) -> SectionDiff:
    """A unified diff."""
    try:
        ours, theirs = (str(data, "utf-8").splitlines() for data in pair.bytes())
    except UnicodeDecodeError:
        return replace(base, note=UNREADABLE)
    return replace(base, lines=tuple(unified_diff(ours, theirs, "a", "b", lineterm="")))


def compare_json(base: SectionDiff, pair: Pair) -> SectionDiff:
    """Field by field."""
    ours, theirs = map(parse, pair.bytes())
    if ours is None or theirs is None:
        return replace(base, note=UNREADABLE)
    return with_changes(base, field_changes(ours, theirs))


def compare_provenance(base: SectionDiff, pair: Pair) -> SectionDiff:
    """Field by field; hashes of sections, which are compared themselves, only where nothing else differs."""
    found = compare_json(base, pair)
    told = tuple(each for each in found.changes if not each.path.startswith("sections."))
    return replace(found, changes=told or found.changes)


def compare_tokenizer(base: SectionDiff, pair: Pair) -> SectionDiff:
    """By entries and merges."""
    ours, theirs = map(parse, pair.bytes())
    if not (isinstance(ours, dict) and isinstance(theirs, dict)):
        return replace(base, note=UNREADABLE)
    return with_changes(base, tokenizer_changes(ours, theirs))


def compare_tensors(base: SectionDiff, pair: Pair) -> SectionDiff:
    """The large tensors of ONNX steps, by name and bytes."""
    ours, theirs = (_stored(each) for each in (pair.a, pair.b))
    return with_changes(base, _stored_changes(ours, theirs))


def _stored(archive: Archive) -> dict[str, tuple[str, memoryview]]:
    plan: Plan = part(sections.GRAPH, Plan)(archive)
    name = next(each.name for each in archive.directory.sections if each.kind == Kind.TENSORS)
    data = archive.section(name)
    return {
        tensor.name: (
            f"{list(tensor.shape)}, {tensor.nbytes} bytes",
            data[tensor.offset : tensor.offset + tensor.nbytes],
        )
        for tensor in plan.tensors
    }


def _stored_changes(
    ours: Mapping[str, tuple[str, memoryview]], theirs: Mapping[str, tuple[str, memoryview]]
) -> Iterator[Change]:
    for name in {**ours, **theirs}:
        one, other = ours.get(name), theirs.get(name)
        if one != other:
            words = [None if each is None else each[0] for each in (one, other)]
            same = words[0] == words[1]
            yield Change(name, words[0], "other values" if same else words[1])


def compare_lora(base: SectionDiff, pair: Pair) -> SectionDiff:
    """What is said of an adapter; where its parts lie only where nothing else differs."""
    found = typed(part(pair.ours.name, Lora))(base, pair)
    told = tuple(each for each in found.changes if not each.path.startswith("linears"))
    return replace(found, changes=told or found.changes)


KINDS: Mapping[str, Compare] = {
    Kind.MANIFEST: typed(lambda archive: archive.manifest),
    Kind.KV_LAYOUT: typed(lambda archive: archive.kv_layout),
    Kind.GOLDEN: typed(part(sections.GOLDEN, Golden)),
    Kind.PROMPT: typed(part(sections.PROMPT, Prompt)),
    Kind.GRAPH: typed(part(sections.GRAPH, Plan)),
    Kind.LINEARS: typed(part(sections.LINEARS, Linears)),
    Kind.LORA: compare_lora,
    Kind.PROGRAM: compare_program,
    Kind.WEIGHTS_INDEX: compare_index,
    Kind.WEIGHTS: compare_weights,
    Kind.TENSORS: compare_tensors,
    Kind.TOKENIZER: compare_tokenizer,
    Kind.TEXT: compare_text,
    Kind.JSON: compare_json,
    Kind.PROVENANCE: compare_provenance,
    Kind.SIGNATURE: compare_json,
}
