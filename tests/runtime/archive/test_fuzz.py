"""Whatever the bytes, the reader ends with an archive or an ArchiveError, in bounded memory."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgpack
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support import archives
from support.archives import MAGIC, Forgery
from support.mutations import calm, junk, mutated

from hearth.runtime.archive import open_archive
from hearth.runtime.archive.reader import Container, open_container
from hearth.schemas.codec import encode
from hearth.schemas.errors import ArchiveError

quiet = settings(calm, max_examples=150)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


@pytest.fixture(scope="module")
def data(folder: Path) -> bytes:
    return archives.write_model(folder / "model.har").read_bytes()


def survives(folder: Path, data: bytes, opens: Callable[..., Container] = open_archive) -> str:
    """The code of the ArchiveError, or "" where the file opened."""
    path = folder / "fuzzed.har"
    path.write_bytes(data)
    try:
        container = opens(path, "full")
    except ArchiveError as error:
        return error.code if len(str(error)) < 3000 else "a message without end"
    assert sum(len(container.section(name)) for name in container.entries) <= len(data)
    return ""


@quiet
@given(st.binary(max_size=300))
@example(b"")
@example(MAGIC)
@example(MAGIC + bytes(56))
def test_any_bytes(folder: Path, content: bytes) -> None:
    assert survives(folder, content).startswith("archive.")
    assert survives(folder, MAGIC + content).startswith("archive.")


@quiet
@given(
    st.fixed_dictionaries(
        {}, optional=dict.fromkeys(
            ("version", "features", "file", "offset", "nbytes"),
            st.integers(0, 2**32 - 1) | st.sampled_from([0, 1, 63, 64, 65, 128, 4096]),
        ),
    ),
    st.binary(max_size=200),
    st.binary(max_size=200),
)  # fmt: skip
def test_any_header_with_a_good_checksum(
    folder: Path, header: dict[str, int], body: bytes, directory: bytes
) -> None:
    forged = Forgery(body=body, directory=directory, header=header)
    assert survives(folder, forged.bytes(), open_container) != "archive.header"


@quiet
@given(junk())
def test_any_directory_with_a_good_hash(folder: Path, value: Any) -> None:
    forged = Forgery(directory=msgpack.packb(value))
    assert survives(folder, forged.bytes(), open_container) in (
        "archive.schema",
        "archive.alignment",
    )


@settings(calm, max_examples=250)
@given(st.data())
def test_a_directory_changed_anywhere(folder: Path, source: st.DataObject) -> None:
    forged = Forgery.of(archives.model_sections())
    original = {"features": {}, "sections": forged.rows}
    changed = source.draw(mutated(original))
    forged.directory = msgpack.packb(changed)
    if survives(folder, forged.bytes(), open_container) == "":
        assert [row[2:] for row in changed["sections"]] == [row[2:] for row in forged.rows]


PARTS = {
    "manifest": archives.manifest(),
    "program": archives.program(),
    "kv_layout": archives.kv_layout(),
    "weights_index": archives.weights_index(),
}


@pytest.mark.parametrize("part", PARTS)
def test_a_part_changed_anywhere(folder: Path, part: str) -> None:
    @settings(calm, max_examples=150)
    @given(mutated(encode(PARTS[part])))
    def check(changed: Any) -> None:
        sections = archives.model_sections(**{part: msgpack.packb(changed)})
        survives(folder, Forgery.of(sections).bytes())

    check()


@pytest.mark.parametrize("part", PARTS)
def test_a_part_of_any_bytes(folder: Path, part: str) -> None:
    @settings(calm, max_examples=50)
    @given(st.binary(max_size=100))
    def check(content: bytes) -> None:
        sections = archives.model_sections(**{part: content})
        assert survives(folder, Forgery.of(sections).bytes()) != ""

    check()


@settings(calm, max_examples=250)
@given(st.data())
def test_any_changed_byte_is_found(folder: Path, data: bytes, source: st.DataObject) -> None:
    place = source.draw(st.integers(0, len(data) - 1))
    spoiled = bytearray(data)
    spoiled[place] ^= source.draw(st.integers(1, 255))
    assert survives(folder, bytes(spoiled)) != ""


def test_every_byte_of_the_directory_counts(folder: Path, data: bytes) -> None:
    start = open_archive(folder / "model.har").header.directory_offset
    for place in range(start, len(data)):
        spoiled = bytearray(data)
        spoiled[place] ^= 0x10
        assert survives(folder, bytes(spoiled)) == "archive.directory_hash"


HOSTILE = {
    "nested arrays": b"\x91" * (1 << 20),
    "empty arrays": b"\xdd\x00\x0f\xff\x00" + b"\x90" * 0xFFF00,
    "array of 4 billion": b"\xdd\xff\xff\xff\xff",
    "string of 4 billion": b"\xdb\xff\xff\xff\xff",
    "bytes of 4 billion": b"\xc6\xff\xff\xff\xff",
    "map of 4 billion": b"\xdf\xff\xff\xff\xff",
    "ext of 4 billion": b"\xc9\xff\xff\xff\xff\x01",
    "arrays of arrays of many": b"\xdd\x00\x0f\x00\x00" * 100,
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_directory_takes_little_memory(folder: Path, case: str) -> None:
    path = folder / "hostile.har"
    path.write_bytes(Forgery(directory=HOSTILE[case][: 1 << 20]).bytes())
    tracemalloc.start()
    try:
        with pytest.raises(ArchiveError, match=r"archive\.schema"):
            open_container(path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 128 << 20, (
        case
    )  # 1 MiB of empty lists is the worst: 64 bytes and a pointer for each


@pytest.mark.parametrize("claimed", [2**20 + 1, 2**40, 2**63])
def test_a_claimed_size_is_not_believed(folder: Path, claimed: int) -> None:
    path = folder / "claims.har"
    path.write_bytes(Forgery(header={"nbytes": claimed, "file": 64 + claimed}).bytes())
    tracemalloc.start()
    try:
        with pytest.raises(ArchiveError, match=r"archive\.truncated"):
            open_container(path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1 << 20


def test_a_part_larger_than_any_model_needs(folder: Path) -> None:
    path = folder / "large.har"
    sections = archives.model_sections(program=b"\x90" * ((4 << 20) + 1))
    path.write_bytes(Forgery.of(sections).bytes())
    with pytest.raises(ArchiveError, match="4194304"):
        open_archive(path)
