"""Archives of every released format version are read, give the same bits on every instruction set, and stay whole."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hearth.runtime import Model, load, native
from hearth.runtime.archive import append, open_archive
from hearth.runtime.verify.golden import count_cases, replay
from hearth.runtime.verify.plan import check
from hearth.schemas import upgrade
from hearth.schemas.codec import dumps
from hearth.schemas.errors import ArchiveError
from hearth.schemas.golden import Golden
from hearth.schemas.manifest import ModelKind
from hearth.schemas.sections import FORMAT_VERSION
from hearth.schemas.upgrade import load_part

FOLDER = Path(__file__).parent / "archives"
EXPECTED: Mapping[str, Any] = json.loads((FOLDER / "expected.json").read_text())
STEPS = 8
each = pytest.mark.parametrize("name", EXPECTED)
spoken = pytest.mark.parametrize("name", [name for name in EXPECTED if "greedy" in EXPECTED[name]])
vectors = pytest.mark.parametrize(
    "name", [name for name in EXPECTED if "greedy" not in EXPECTED[name]]
)


def said(model: Model, prompt: str) -> tuple[list[int], list[int], str]:
    """Ids of the prompt, greedy tokens, and one hash over the logits of the prompt and of each of those."""
    ids = model.encode(prompt)
    session = model.session()
    logits = session.prefill(ids)
    digest, greedy = hashlib.sha256(logits.tobytes()), []
    for _ in range(STEPS):
        greedy.append(int(logits.argmax()))
        logits = session.decode(greedy[-1])
        digest.update(logits.tobytes())
    return ids, greedy, digest.hexdigest()


def test_every_version_that_is_read_has_its_archives() -> None:
    versions = {open_archive(FOLDER / name).header.version for name in EXPECTED}
    assert versions | {FORMAT_VERSION} == set(upgrade.VERSIONS)
    assert {path.name for path in FOLDER.glob("*.har")} == set(EXPECTED)


@each
def test_the_file_is_the_one_that_was_released(name: str) -> None:
    assert hashlib.sha256((FOLDER / name).read_bytes()).hexdigest() == EXPECTED[name]["sha256"]


@spoken
@pytest.mark.parametrize("isa", native.isas())
def test_it_says_what_it_said(name: str, isa: str) -> None:
    wanted = EXPECTED[name]
    for threads in (1, 3):
        model = load(FOLDER / name, threads=threads, isa=isa, check="full")
        found = said(model, wanted["prompt"])
        assert found == (wanted["ids"], wanted["greedy"], wanted["logits_sha256"])


@vectors
@pytest.mark.parametrize("isa", native.isas())
def test_its_golden_vectors_are_what_it_gives(name: str, isa: str) -> None:
    """Archives since version 2 carry their own."""
    archive = open_archive(FOLDER / name, "full")
    golden = load_part(Golden, archive.section("golden"), archive.header.version, "golden")
    assert count_cases(golden) > 0
    for threads in (1, 3):
        assert list(replay(archive, golden, threads, isa)) == []


@each
def test_its_plan_is_whole(name: str) -> None:
    archive = open_archive(FOLDER / name)
    check(archive.program)
    assert archive.manifest.format == archive.header.version


@each
def test_it_can_be_added_to_and_stays_of_its_version(name: str, tmp_path: Path) -> None:
    place = tmp_path / name
    shutil.copy(FOLDER / name, place)
    version = open_archive(place).header.version
    append(place, [("note", "text", b"added later")])
    archive = open_archive(place, "full")
    assert archive.header.version == version
    assert archive.text("note") == "added later"
    if "greedy" in EXPECTED[name]:
        found = said(load(place), EXPECTED[name]["prompt"])
        assert found[2] == EXPECTED[name]["logits_sha256"]


@each
def test_a_part_that_its_version_writes_otherwise_is_not_added(name: str, tmp_path: Path) -> None:
    place = tmp_path / name
    shutil.copy(FOLDER / name, place)
    before = place.read_bytes()
    archive = open_archive(place)
    if archive.header.version == FORMAT_VERSION:
        pytest.skip("this version's own form")
    with pytest.raises(ArchiveError, match="whose manifest cannot be replaced") as caught:
        append(
            place,
            [("manifest", "manifest", dumps(archive.manifest))],
            replace=("manifest",),
        )
    assert caught.value.code == "archive.version"
    assert place.read_bytes() == before


def test_version_1_is_a_decoder_with_causal_attention() -> None:
    archive = open_archive(FOLDER / "v1-int4.har")
    assert archive.manifest.kind is ModelKind.DECODER
    for entry in archive.program.entries.values():
        assert [port.name for port in (*entry.inputs, *entry.outputs)] == ["tokens", "logits"]
        assert {c.ints[-1] for c in entry.commands if c.op == "attention"} == {1}


def test_a_damaged_part_of_an_old_version_is_refused_by_its_path() -> None:
    archive = open_archive(FOLDER / "v1-f16.har")
    data = bytes(archive.section("program")).replace(b"max_rows", b"max_rowz", 1)
    with pytest.raises(ArchiveError, match=r"program\.entries\.\w+\.max_rows is missing"):
        upgrade.load_part(type(archive.program), data, 1, "program")


def test_the_logits_are_finite() -> None:
    logits = load(FOLDER / "v1-int4.har").session().prefill([1, 2, 3])
    assert np.isfinite(logits).all()
