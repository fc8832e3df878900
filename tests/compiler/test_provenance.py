"""The provenance record: hashes of all files read, the recipe that makes the archive again, nothing of this machine."""

from __future__ import annotations

import getpass
import hashlib
import socket
import time
from importlib import metadata
from pathlib import Path

import pytest
from support.compiling import wanted
from support.desk import Desk, make_desk

from hearth.compiler import publish
from hearth.compiler.check.recompile import recompile
from hearth.compiler.conduct import Conduct
from hearth.compiler.job import options
from hearth.compiler.pipeline import compile_model
from hearth.compiler.provenance import SourceHashes
from hearth.runtime.archive import open_archive
from hearth.schemas import sections
from hearth.schemas.errors import ArchiveError, HearthError
from hearth.schemas.provenance import Provenance, read_provenance, write_provenance
from hearth.schemas.recipe import make_recipe


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    return make_desk(tmp_path_factory.mktemp("desk"))


def record_of(path: Path) -> Provenance:
    return read_provenance(open_archive(path).section(sections.PROVENANCE))


RECIPES = {
    "defaults": {},
    "coarse": {"weights": "int4", "group_size": 64, "kv": "f16", "context": 32},
    "floats": {"weights": "f32", "kv": "f32"},
    "mixed": {"weights": "int8", "embeddings": "f16", "activations": "none"},
}


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_the_recipe_makes_the_archive_again(
    recipe: dict[str, object], desk: Desk, tmp_path: Path
) -> None:
    values = {"source": "s", "output": "o", **recipe}
    given = options(make_recipe(values), frozenset({"tie"}))
    compile_model(desk.source, tmp_path / "a.har", given)
    record = record_of(tmp_path / "a.har")
    settings = {name: value for name, value in record.recipe.items() if value is not None}
    again = options(make_recipe({"source": "s", "output": "o", **settings}), frozenset({"tie"}))
    assert (again.scheme, again.target) == (given.scheme, given.target)
    assert record.skipped_passes == ("tie",)
    recompile(desk.source, record, tmp_path / "b.har", 1)
    assert (tmp_path / "b.har").read_bytes() == (tmp_path / "a.har").read_bytes()


def test_every_file_that_was_read_is_there_with_its_hash(desk: Desk, tmp_path: Path) -> None:
    compile_model(desk.source, tmp_path / "m.har", wanted())
    files = {file.name: file for file in record_of(tmp_path / "m.har").files}
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= files.keys()
    for name, file in files.items():
        data = (desk.source / name).read_bytes()
        assert (file.nbytes, file.sha256) == (len(data), hashlib.sha256(data).hexdigest())


def test_nothing_of_this_machine_is_recorded(desk: Desk, tmp_path: Path) -> None:
    """Not in the record, and nowhere else: the same archive under another name, place and time."""
    compile_model(desk.source, tmp_path / "m.har", wanted())
    time.sleep(1.1)
    (tmp_path / "elsewhere").mkdir()
    compile_model(desk.source, tmp_path / "elsewhere/other.har", wanted(), Conduct(1))
    data = (tmp_path / "m.har").read_bytes()
    assert data == (tmp_path / "elsewhere/other.har").read_bytes()
    text = bytes(open_archive(tmp_path / "m.har").section(sections.PROVENANCE)).decode()
    for secret in (str(desk.folder), str(tmp_path), socket.gethostname(), f"/{getpass.getuser()}/"):
        assert secret not in text


def test_the_versions_of_what_decides_bytes(desk: Desk, tmp_path: Path) -> None:
    compile_model(desk.source, tmp_path / "m.har", wanted())
    record = record_of(tmp_path / "m.har")
    assert record.packages["numpy"] == metadata.version("numpy")
    assert "onnx" not in record.packages, "no part of this source is ONNX"
    assert record.arena["prefill"].nbytes >= record.arena["prefill"].lower_bound > 0


def test_hashes_of_nested_and_linked_files(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "src/part").mkdir(parents=True)
    (tmp_path / "src/part/a").write_bytes(b"a" * 3_000_000)
    (tmp_path / "store/b").write_bytes(b"b")
    (tmp_path / "src/b").symlink_to(tmp_path / "store/b")
    files = (tmp_path / "src/part/a", tmp_path / "src/b", tmp_path / "src/part/../part/a")
    with SourceHashes(tmp_path / "src", files) as hashes:
        found = hashes.result()
    assert [(file.name, file.nbytes) for file in found] == [("b", 1), ("part/a", 3_000_000)]
    assert found[1].sha256 == hashlib.sha256(b"a" * 3_000_000).hexdigest()


def test_a_file_that_goes_away_is_told(tmp_path: Path) -> None:
    with (
        pytest.raises(HearthError) as refused,
        SourceHashes(tmp_path, (tmp_path / "gone",)) as hashes,
    ):
        hashes.result()
    assert refused.value.code == "checkpoint.unreadable"


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError, OSError])
@pytest.mark.parametrize("step", ["make_golden", "write_provenance"])
def test_what_stops_in_the_last_steps_leaves_nothing(
    step: str,
    error: type[BaseException],
    desk: Desk,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def stop(*_: object) -> None:
        raise error

    monkeypatch.setattr(publish, step, stop)
    with pytest.raises(error):
        compile_model(desk.source, tmp_path / "m.har", wanted())
    assert list(tmp_path.iterdir()) == []


def test_a_record_that_is_none_is_refused(desk: Desk, tmp_path: Path) -> None:
    compile_model(desk.source, tmp_path / "m.har", wanted())
    good = write_provenance(record_of(tmp_path / "m.har"))
    assert write_provenance(read_provenance(good)) == good
    for bad in (b"", b"{}", b"[]", b"\xff", good[:-1], b"[" * 100_000, b" " * (5 << 20)):
        with pytest.raises(ArchiveError) as refused:
            read_provenance(bad)
        assert refused.value.code == "archive.schema"
