"""Parts of older versions: whatever is in them becomes a part of today, or is refused by its path."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from support import archives
from support.archives import Forgery
from support.mutations import calm, mutated

from hearth.runtime.archive import open_archive
from hearth.schemas.codec import decode, dumps, encode
from hearth.schemas.errors import ArchiveError
from hearth.schemas.manifest import Manifest, ModelKind
from hearth.schemas.program import Command, Program, Rows
from hearth.schemas.sections import FORMAT_VERSION
from hearth.schemas.upgrade import FORMER, VERSIONS, Entry1, Manifest1, Program1, load_part

ENTRY = archives.program().entries["prefill"]
SILU = Command("silu", Rows.T, (None, None), (16,))
ATTENTION = Command("attention", Rows.T, (None,) * 8, (2, 1, 8, 8, 16, 2, 0), (0.5,))
OLD_ENTRY = Entry1(
    (*ENTRY.commands, SILU, ATTENTION), archives.IO_TOKENS, archives.IO_LOGITS, ENTRY.given,
    ENTRY.max_rows, ENTRY.arena_nbytes,
)  # fmt: skip
PROGRAM = archives.program()
OLD_PROGRAM = Program1(
    {"prefill": OLD_ENTRY}, PROGRAM.weights_nbytes, PROGRAM.kv_nbytes, PROGRAM.io_nbytes
)


def old_manifest() -> Manifest1:
    fields = encode(archives.manifest())
    del fields["kind"], fields["embedding"]
    return decode(Manifest1, {**fields, "format": 1}, "manifest")


OLD = {Manifest: old_manifest(), Program: OLD_PROGRAM}


def test_every_version_before_this_one_is_read() -> None:
    assert tuple(range(1, FORMAT_VERSION + 1)) == VERSIONS
    assert set(FORMER) == set(VERSIONS) - {FORMAT_VERSION}


def test_ports_are_those_that_the_commands_use() -> None:
    program = load_part(Program, dumps(OLD_PROGRAM), 1, "program")
    entry = program.entries["prefill"]
    assert (entry.inputs, entry.outputs) == ((archives.TOKENS,), (archives.LOGITS,))
    assert entry.given == OLD_ENTRY.inputs
    assert entry.commands[: len(ENTRY.commands)] == ENTRY.commands
    assert entry.commands[-2] == replace(SILU, op="activate", ints=(16, 1))
    assert entry.commands[-1] == replace(ATTENTION, ints=(*ATTENTION.ints, 1))


def test_the_manifest_says_what_version_1_could_be() -> None:
    manifest = load_part(Manifest, dumps(OLD[Manifest]), 1, "manifest")
    assert (manifest.kind, manifest.embedding, manifest.format) == (ModelKind.DECODER, None, 1)
    assert replace(manifest, format=2) == archives.manifest()


def test_other_parts_are_as_they_were() -> None:
    layout = archives.kv_layout()
    assert load_part(type(layout), dumps(layout), 1, "kv_layout") == layout


@pytest.mark.parametrize("kind", OLD, ids=lambda kind: kind.__name__)
def test_a_part_of_another_version_is_refused(kind: type) -> None:
    """Neither form is taken for the other."""
    today = {Manifest: archives.manifest(), Program: PROGRAM}[kind]
    with pytest.raises(ArchiveError, match=r"unknown|missing"):
        load_part(kind, dumps(today), 1, "part")
    with pytest.raises(ArchiveError, match=r"unknown|missing"):
        load_part(kind, dumps(OLD[kind]), FORMAT_VERSION, "part")


@pytest.mark.parametrize("kind", OLD, ids=lambda kind: kind.__name__)
def test_anything_in_an_old_part_is_upgraded_or_refused(kind: type) -> None:
    @settings(calm, max_examples=150)
    @given(mutated(encode(OLD[kind]), binary=True))
    def check(data: Any) -> None:
        with suppress(ArchiveError):
            found = load_part(kind, msgpack.packb(data), 1, "part")
            assert isinstance(found, kind)
            dumps(found)  # a well-formed part of today

    check()


def test_an_old_archive_is_opened_whole(tmp_path: Path) -> None:
    """Its commands are checked against today's contracts after the upgrade."""
    path = tmp_path / "a.har"

    def written(program: Program1) -> None:
        parts = {"manifest": dumps(OLD[Manifest]), "program": dumps(program)}
        forged = Forgery.of(archives.model_sections(**parts))
        forged.header["version"] = 1
        path.write_bytes(forged.bytes())

    written(replace(OLD_PROGRAM, entries={"prefill": replace(OLD_ENTRY, commands=ENTRY.commands)}))
    assert open_archive(path, "full").header.version == 1
    written(OLD_PROGRAM)  # its silu has no operands
    with pytest.raises(ArchiveError, match=r"\(activate\) lacks its operand 'x'|has \(operands"):
        open_archive(path)
