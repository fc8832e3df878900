"""The reader gives back what was written, and has one error for each way a file can be wrong."""

from __future__ import annotations

import gc
import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from support import archives
from support.archives import Forgery

from hearth.runtime.archive import open_archive
from hearth.runtime.archive.reader import open_container
from hearth.schemas.errors import ArchiveError, HearthError, ResourceError

Spoil = Callable[[Forgery], None]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return archives.write_model(tmp_path / "model.har")


def refused(path: Path, data: bytes, check: str = "structure") -> ArchiveError:
    path.write_bytes(data)
    with pytest.raises(ArchiveError) as caught:
        open_container(path, check)
    assert str(path) in str(caught.value)
    return caught.value


def test_a_model_comes_back_as_it_was_written(model: Path) -> None:
    archive = open_archive(model, check="full")
    assert archive.manifest == archives.manifest()
    assert archive.program == archives.program()
    assert archive.kv_layout == archives.kv_layout()
    assert archive.weights_index == archives.weights_index()
    assert archive.weights() == archives.WEIGHTS
    assert archive.text("tokenizer") == '{"a": 1}'
    assert archive.text("chat_template") is None
    assert list(archive.entries)[-1] == "weights/x86-64"


def test_sections_are_read_only_views_of_the_mapping(model: Path) -> None:
    archive = open_archive(model)
    view = archive.weights()
    assert view.readonly
    assert view.obj is archive.data.obj
    del archive
    assert bytes(view) == archives.WEIGHTS


def test_the_bytes_are_those_of_the_format_page(model: Path) -> None:
    assert model.read_bytes() == Forgery.of(archives.model_sections()).bytes()


def test_golden_bytes(tmp_path: Path) -> None:
    """A change of the format changes this hash, on purpose and with the version."""
    sections = [("text", "text", b"hearth"), ("weights/t", "weights", b"\x01" * 100)]
    data = archives.write(tmp_path / "golden.har", sections).read_bytes()
    assert len(data) == 4096 + 128 + 125
    assert hashlib.sha256(data).hexdigest()[:16] == "79495054313a7d72"


def test_an_absent_section_is_named(model: Path) -> None:
    with pytest.raises(ArchiveError, match="adapter/x") as caught:
        open_archive(model).section("adapter/x")
    assert caught.value.code == "archive.missing_section"


@pytest.mark.parametrize(
    "name", ["manifest", "program", "kv_layout", "weights.index", "weights/x86-64"]
)
def test_a_model_without_one_of_its_parts_is_refused(tmp_path: Path, name: str) -> None:
    kept = [section for section in archives.model_sections() if section[0] != name]
    path = archives.write(tmp_path / "model.har", kept)
    with pytest.raises(ArchiveError, match=name) as caught:
        open_archive(path)
    assert caught.value.code == "archive.missing_section"


def test_truncation_anywhere_is_an_error(model: Path) -> None:
    data = model.read_bytes()
    archive = open_archive(model)
    edges = {
        end + d for s in archive.entries.values() for end in (s.offset, s.end) for d in (-1, 0, 1)
    }
    header = archive.header
    edges |= {header.directory_offset, header.directory_offset + 1, len(data) - 1, *range(65)}
    for size in sorted(edges):
        assert refused(model, data[:size]).code == "archive.truncated", size


def test_every_bit_of_the_header_counts(model: Path) -> None:
    data = model.read_bytes()
    codes = set()
    for bit in range(64 * 8):
        spoiled = bytearray(data)
        spoiled[bit // 8] ^= 1 << bit % 8
        codes.add(refused(model, bytes(spoiled)).code)
    assert codes == {"archive.bad_magic", "archive.version", "archive.header"}


def test_a_tail_is_an_unfinished_append(model: Path) -> None:
    model.write_bytes(model.read_bytes() + b"half a section")
    assert open_archive(model, check="full").manifest == archives.manifest()


def test_weights_are_hashed_only_by_the_full_check(model: Path) -> None:
    data = bytearray(model.read_bytes())
    data[open_archive(model).entries["weights/x86-64"].offset + 7] ^= 1
    model.write_bytes(data)
    open_archive(model)
    with pytest.raises(ArchiveError, match="weights/x86-64") as caught:
        open_archive(model, check="full")
    assert caught.value.code == "archive.section_hash"


def test_small_sections_are_always_hashed(model: Path) -> None:
    data = bytearray(model.read_bytes())
    data[open_archive(model).entries["tokenizer"].offset] ^= 1
    assert refused(model, bytes(data)).code == "archive.section_hash"


@pytest.mark.parametrize("version", [0, 3, 2**32 - 1])
def test_another_version_says_what_to_do(tmp_path: Path, version: int) -> None:
    error = refused(tmp_path / "a.har", Forgery(header={"version": version}).bytes())
    assert error.code == "archive.version"
    assert error.remedy == ("update hearth" if version > 1 else "compile the model again")


def test_an_unknown_required_feature_is_refused_by_name(tmp_path: Path) -> None:
    error = refused(tmp_path / "a.har", Forgery(features={"sparse_weights": 63}).bytes())
    assert error.code == "archive.feature"
    assert "'sparse_weights'" in error.found
    assert error.remedy == "update hearth"


@pytest.mark.parametrize(
    ("features", "bits"), [({}, 4), ({"a": 2}, 0), ({"a": 2, "b": 2}, 4), ({"a": 2**62}, 4)]
)
def test_feature_names_and_bits_must_agree(
    tmp_path: Path, features: dict[str, int], bits: int
) -> None:
    directory = archives.msgpack.packb({"features": features, "sections": []})
    forged = Forgery(directory=directory, header={"features": bits})
    assert refused(tmp_path / "a.har", forged.bytes()).code == "archive.schema"


SECTIONS = [("a", "text", b"A" * 70), ("b", "text", b"B" * 64), ("weights/x", "weights", b"C" * 5)]
# name: code, what spoils a well-formed file before hash and CRC are sealed
SPOILED: dict[str, tuple[str, Spoil]] = {
    "offset beyond the file": ("bounds", lambda f: f.row("b").__setitem__(2, 2**40)),
    "bytes beyond the file": ("bounds", lambda f: f.row("b").__setitem__(3, 2**63 - 1)),
    "section in the header": ("bounds", lambda f: f.row("a").__setitem__(2, 0)),
    "section in the directory": ("bounds", lambda f: f.row("weights/x").__setitem__(3, 100)),
    "directory in the header": ("bounds", lambda f: f.header.update(offset=0)),
    "directory not at the end": ("bounds", lambda f: f.header.update(nbytes=3)),
    "directory beyond 64 bits": (
        "bounds",
        lambda f: f.header.update(offset=2**64 - 1, nbytes=2**64 - 1),
    ),
    "file shorter than told": ("truncated", lambda f: f.header.update(file=2**63)),
    "directory too large": ("bounds", lambda f: f.__setattr__("directory", bytes(2**20 + 1))),
    "misaligned section": ("alignment", lambda f: f.row("b").__setitem__(2, 193)),
    "weights off a page": ("alignment", lambda f: f.row("b").__setitem__(1, "weights")),
    "overlap": ("overlap", lambda f: f.row("b").__setitem__(2, 128)),
    "same place twice": ("overlap", lambda f: f.row("b").__setitem__(2, 64)),
    "order": ("hole", lambda f: f.rows.reverse()),
    "page skipped": ("hole", lambda f: f.row("weights/x").__setitem__(1, "text")),
    "section forgotten": ("hole", lambda f: f.rows.pop(0) and None),
    "last section forgotten": ("hole", lambda f: f.rows.pop() and None),
    "same name twice": ("duplicate", lambda f: f.row("b").__setitem__(0, "a")),
    "empty name": ("schema", lambda f: f.row("b").__setitem__(0, "")),
    "name with a newline": ("schema", lambda f: f.row("b").__setitem__(0, "b\n")),
    "name too long": ("schema", lambda f: f.row("b").__setitem__(0, "b" * 129)),
    "kind not a word": ("schema", lambda f: f.row("b").__setitem__(1, "Text!")),
    "short hash": ("schema", lambda f: f.row("b").__setitem__(4, b"1234")),
    "wrong hash": ("section_hash", lambda f: f.row("b").__setitem__(4, bytes(32))),
    "offset of another type": ("schema", lambda f: f.row("b").__setitem__(2, 1.5)),
    "negative offset": ("schema", lambda f: f.row("b").__setitem__(2, -64)),
    "a field missing": ("schema", lambda f: f.row("b").pop() and None),
    "a field too many": ("schema", lambda f: f.row("b").append(0)),
    "directory of another type": ("schema", lambda f: f.__setattr__("directory", b"\xc0")),
    "directory not msgpack": ("schema", lambda f: f.__setattr__("directory", b"\xc1")),
    "directory cut short": ("schema", lambda f: f.__setattr__("directory", b"\x82\xa8feat")),
    "two values": ("schema", lambda f: f.__setattr__("directory", b"\x80\x80")),
    "empty directory": ("schema", lambda f: f.__setattr__("directory", b"")),
    "nested too deep": ("schema", lambda f: f.__setattr__("directory", b"\x91" * 100_000)),
    "array of 4 billion": ("schema", lambda f: f.__setattr__("directory", b"\xdd\xff\xff\xff\xff")),
    "string of 4 billion": (
        "schema",
        lambda f: f.__setattr__("directory", b"\xdb\xff\xff\xff\xff"),
    ),
    "map of 4 billion": ("schema", lambda f: f.__setattr__("directory", b"\xdf\xff\xff\xff\xff")),
    "same key twice": (
        "schema",
        lambda f: f.__setattr__("directory", b"\x82\xa8features\x80\xa8features\x80"),
    ),
    "padding not zero": ("hole", lambda f: f.__setattr__("body", f.body[:75] + b"x" + f.body[76:])),
    "last padding not zero": ("hole", lambda f: f.__setattr__("body", f.body[:-1] + b"x")),
}


@pytest.mark.parametrize("case", SPOILED)
def test_each_way_to_be_wrong_has_its_code(tmp_path: Path, case: str) -> None:
    code, spoil = SPOILED[case]
    forged = Forgery.of(SECTIONS)
    spoil(forged)
    assert refused(tmp_path / "a.har", forged.bytes(), "full").code == f"archive.{code}"


def test_the_unspoiled_forgery_opens(tmp_path: Path) -> None:
    path = tmp_path / "a.har"
    path.write_bytes(Forgery.of(SECTIONS).bytes())
    assert bytes(open_container(path, "full").section("b")) == b"B" * 64


def test_a_directory_that_does_not_match_its_hash(tmp_path: Path) -> None:
    data = bytearray(Forgery.of(SECTIONS).bytes())
    data[-1] ^= 1
    assert refused(tmp_path / "a.har", bytes(data)).code == "archive.directory_hash"


def test_unknown_kinds_are_passed_over(tmp_path: Path) -> None:
    path = archives.write(
        tmp_path / "a.har", [*archives.model_sections(), ("lora/x", "adapter", b"1")]
    )
    assert open_archive(path).section("lora/x") == b"1"


def test_what_is_no_archive_says_so(tmp_path: Path) -> None:
    error = refused(tmp_path / "a.har", b"GGUF\x03\0\0\0" + bytes(100))
    assert error.code == "archive.bad_magic"
    assert "GGUF" in error.found


def test_what_cannot_be_opened_says_why(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "none.har", tmp_path, tmp_path / "file" / "x.har"):
        with pytest.raises(ArchiveError) as caught:
            open_archive(path)
        assert caught.value.code == "archive.not_found"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission(model: Path) -> None:
    model.chmod(0)
    with pytest.raises(ResourceError) as caught:
        open_archive(model)
    assert caught.value.code == "resource.unreadable"


def test_a_wrong_check_is_a_bug_not_a_user_error(model: Path) -> None:
    with pytest.raises(ValueError, match="structure") as caught:
        open_archive(model, check="none")  # type: ignore[arg-type]
    assert not isinstance(caught.value, HearthError)


def test_a_section_that_should_be_text(tmp_path: Path) -> None:
    path = archives.write(tmp_path / "a.har", [("chat_template", "text", b"\xff")])
    with pytest.raises(ArchiveError, match="UTF-8"):
        open_container(path).text("chat_template")


def test_no_descriptor_stays_open(model: Path) -> None:
    gc.collect()
    before = len(os.listdir("/proc/self/fd"))
    kept = [open_archive(model) for _ in range(8)]
    # each mapping keeps one descriptor of its own; dropping the archive drops it
    del kept
    assert len(os.listdir("/proc/self/fd")) == before
