"""Parts that are well-formed but disagree are refused before anything runs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support import archives

from hearth.runtime.archive import open_archive
from hearth.schemas.errors import ArchiveError
from hearth.schemas.kv_layout import KVLayout, Span
from hearth.schemas.manifest import Embedding, Manifest, ModelKind
from hearth.schemas.program import Entry, Operand, Program, Region, Rows

VECTOR = Embedding("mean", True, 32)
ENTRY = archives.program().entries["prefill"]
LINEAR = ENTRY.commands[2]


def with_entry(**changes: Any) -> Program:
    return replace(archives.program(), entries={"prefill": replace(ENTRY, **changes)})


def with_port(place: int, **changes: Any) -> Program:
    """The tokens (0) or the logits (1) elsewhere."""
    ports = [*ENTRY.inputs, *ENTRY.outputs]
    ports[place] = replace(ports[place], operand=replace(ports[place].operand, **changes))
    return with_entry(inputs=(ports[0],), outputs=(ports[1],))


def with_command(**changes: Any) -> Program:
    return with_entry(commands=(*ENTRY.commands[:2], replace(LINEAR, **changes)))


def with_operand(place: int, operand: Operand | None) -> Program:
    operands = list(LINEAR.operands)
    operands[place] = operand
    return with_command(operands=tuple(operands))


def kv_beyond() -> KVLayout:
    layout = archives.kv_layout()
    k = replace(layout.layers[0].k, codes=Span(1000, 25))
    return replace(layout, layers=(replace(layout.layers[0], k=k),))


def with_vocab(vocab: int) -> Manifest:
    manifest = archives.manifest()
    assert manifest.dims is not None
    return replace(manifest, dims=replace(manifest.dims, vocab=vocab))


def index_beyond() -> Any:
    index = archives.weights_index()
    return replace(index, tensors=(replace(index.tensors[0], nbytes=2**40),))


# what disagrees: the part that replaces a good one, what the message says
CASES: dict[str, tuple[str, Any, str]] = {
    "another format": ("manifest", replace(archives.manifest(), format=1), "manifest.format is 1"),
    "entries": ("manifest", replace(archives.manifest(), entries=("decode",)), "manifest.entries"),
    "no target": ("manifest", replace(archives.manifest(), targets=()), "at least one target"),
    "chunk": ("manifest", replace(archives.manifest(), chunk=8), "manifest.chunk is 8"),
    "context": ("manifest", replace(archives.manifest(), context=17), "layers[0].context is 16"),
    "vocabulary": ("manifest", with_vocab(33), "prefill.outputs is [('logits', 32, 'R')]"),
    "KV bytes": ("kv_layout", replace(archives.kv_layout(), nbytes=2048), "kv_layout.nbytes is 2048"),
    "KV span": ("kv_layout", kv_beyond(), "kv_layout span 0 ends at 1025"),
    "tensor": ("weights_index", index_beyond(), "tensor 'embed' ends at 10995"),
    "weights": ("program", replace(archives.program(), weights_nbytes=5121), "'weights/x86-64' is 5120"),
    "unknown command": ("program", with_command(op="launch"), "(launch) is none of the commands"),
    "operand count": ("program", with_command(operands=LINEAR.operands[:3]), "where its contract has (5, 5"),
    "ints": ("program", with_command(ints=()), "where its contract has"),
    "floats": ("program", with_command(floats=(1.0,)), "where its contract has"),
    "operand left out": ("program", with_operand(1, None), "commands[2] (linear) lacks its operand 'w'"),
    "weights operand": ("program", with_operand(1, Operand(Region.WEIGHTS, 5000, 200)), "beyond WEIGHTS"),
    "arena operand": ("program", with_operand(0, Operand(Region.ARENA, 512, 1)), "beyond ARENA"),
    "kv operand": ("program", with_operand(0, Operand(Region.KV, 2**62, 2**62)), "beyond KV"),
    "io operand": ("program", with_operand(4, Operand(Region.IO, 1024, 64)), "operand 4 ends at 1088"),
    "tokens elsewhere": ("program", with_port(0, region=Region.ARENA), "'tokens' is in ARENA"),
    "tokens beyond": ("program", with_port(0, offset=1009), "'tokens' ends at 1025"),
    "logits beyond": ("program", with_port(1, offset=1000), "'logits' ends at 1512"),
    "logits of other rows": ("program", with_port(1, nbytes=4 * 32), "'logits' has bytes is 128"),
    "logits of every row": (
        "program", with_entry(outputs=(replace(ENTRY.outputs[0], rows=Rows.T),)),
        "prefill.outputs is [('logits', 32, 'T')]",
    ),
    "one id": (
        "program", with_entry(inputs=(replace(ENTRY.inputs[0], rows=1, operand=Operand(Region.IO, 0, 4, 4, 0)),)),
        "prefill.inputs is [('tokens', 0, '1')]",
    ),
    "a port twice": ("program", with_entry(inputs=ENTRY.inputs * 2), "prefill.inputs is"),
    "ids elsewhere": ("program", with_entry(inputs=()), "prefill.inputs is []"),
    "no logits": ("program", with_entry(outputs=()), "prefill.outputs is []"),
    "no dims": ("manifest", replace(archives.manifest(), dims=None), "manifest.dims is nil"),
    "a vector": ("manifest", replace(archives.manifest(), embedding=VECTOR), "manifest.embedding is given"),
    "no vector": ("manifest", replace(archives.manifest(), kind=ModelKind.ENCODER), "manifest.embedding is nil"),
    "another kind": (
        "manifest", replace(archives.manifest(), kind=ModelKind.ENCODER, embedding=VECTOR),
        "prefill.outputs is [('logits', 32, 'R')]",
    ),
    "a graph with sizes": ("manifest", replace(archives.manifest(), kind=ModelKind.GRAPH), "manifest.dims is given"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_parts_that_disagree(tmp_path: Path, case: str) -> None:
    part, value, message = CASES[case]
    path = archives.write_model(tmp_path / "a.har", **{part: value})
    with pytest.raises(ArchiveError) as caught:
        open_archive(path)
    assert caught.value.code == "archive.inconsistent"
    assert message in str(caught.value)
    assert caught.value.exit_code == 4


def test_an_empty_entry_is_consistent(tmp_path: Path) -> None:
    most = {Rows.T: 4, Rows.R: 4}
    entry = Entry((), ENTRY.inputs, ENTRY.outputs, (0,), most, 0)
    program = replace(archives.program(), entries={"prefill": entry})
    assert (
        open_archive(archives.write_model(tmp_path / "a.har", program=program)).program == program
    )


def test_the_arena_is_each_entrys_own(tmp_path: Path) -> None:
    entries = {"prefill": ENTRY, "again": replace(ENTRY, arena_nbytes=511)}
    parts = {
        "program": replace(archives.program(), entries=entries),
        "manifest": replace(archives.manifest(), entries=("prefill", "again")),
    }
    with pytest.raises(ArchiveError, match=r"again\.commands\[1\].*beyond ARENA \(511"):
        open_archive(archives.write_model(tmp_path / "a.har", **parts))
