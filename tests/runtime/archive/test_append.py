"""Appending keeps every old byte, and a crash at any moment leaves the old archive or the new one."""

from __future__ import annotations

import errno
import fcntl
import os
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from support import archives
from support.forks import kill_child_after

from hearth.runtime.archive import append, open_archive
from hearth.runtime.archive.files import SystemFiles
from hearth.schemas.errors import ArchiveError, ResourceError

NEW = [("lora/x", "adapter", b"adapter" * 50), ("more/w", "weights", b"W" * 5000)]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return archives.write_model(tmp_path / "model.har")


@dataclass
class Recorder(SystemFiles):
    """What append does to the disk: the steps between two syncs may reach it in any order."""

    steps: list[tuple[str, bytes, int]] = field(default_factory=list)

    def pwrite(self, descriptor: int, data: memoryview, offset: int) -> None:
        self.steps.append(("write", bytes(data), offset))
        super().pwrite(descriptor, data, offset)

    def fsync(self, descriptor: int) -> None:
        self.steps.append(("sync", b"", 0))
        super().fsync(descriptor)

    def truncate(self, descriptor: int, nbytes: int) -> None:
        self.steps.append(("cut", b"", nbytes))
        super().truncate(descriptor, nbytes)


def replay(old: bytes, steps: list[tuple[str, bytes, int]]) -> bytes:
    data = bytearray(old)
    for kind, written, offset in steps:
        if kind == "cut":
            data = data[:offset] + bytes(offset - len(data))
        elif kind == "write" and written:
            data += bytes(max(0, offset - len(data)))
            data[offset : offset + len(written)] = written
    return bytes(data)


def test_the_old_bytes_stay_and_the_new_sections_come(model: Path) -> None:
    old, before = model.read_bytes(), open_archive(model)
    append(model, NEW)
    archive = open_archive(model, check="full")
    assert model.read_bytes()[64 : len(old)] == old[64:]
    assert {name: bytes(archive.section(name)) for name, _, _ in NEW} == {n: d for n, _, d in NEW}
    assert archive.entries["more/w"].offset % 4096 == 0
    retired = archive.entries["retired/1"]
    assert (retired.offset, retired.end) == (before.header.directory_offset, len(old))
    assert archive.fingerprint == before.fingerprint
    assert before.manifest == archive.manifest


def test_appending_again_and_again(model: Path) -> None:
    for number in range(5):
        append(model, [(f"note/{number}", "text", str(number).encode())])
    archive = open_archive(model, check="full")
    assert [archive.text(f"note/{number}") for number in range(5)] == list("01234")
    assert [name for name in archive.entries if name.startswith("retired")] == [
        f"retired/{number}" for number in range(1, 6)
    ]


def test_equal_appends_give_equal_bytes(tmp_path: Path) -> None:
    paths = [archives.write_model(tmp_path / name) for name in ("a.har", "b.har")]
    for path in paths:
        append(path, NEW)
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_the_leftover_of_an_unfinished_append_is_cut_off(model: Path, tmp_path: Path) -> None:
    clean = archives.write_model(tmp_path / "clean.har")
    append(clean, NEW)
    model.write_bytes(model.read_bytes() + b"\xff" * 9999)
    append(model, NEW)
    assert model.read_bytes() == clean.read_bytes()


def test_a_crash_between_any_two_steps(model: Path) -> None:
    """Every prefix of the steps, the last one done, halved or absent; then the append done again."""
    old = model.read_bytes()
    recorder = Recorder()
    append(model, NEW, recorder)
    new, steps = model.read_bytes(), recorder.steps
    assert replay(old, steps) == new
    header_at = max(at for at, step in enumerate(steps) if step[0] == "write")
    assert steps[header_at][2] == 0
    assert [step[0] for step in steps[header_at - 1 :]] == ["sync", "write", "sync"]
    for count in range(len(steps) + 1):
        kind, written, offset = steps[min(count, header_at - 1)]
        torn = [(kind, written[: len(written) // 2], offset)] if count < header_at else []
        model.write_bytes(replay(old, [*steps[:count], *torn]))
        archive = open_archive(model, check="full")
        assert ("lora/x" in archive.entries) == (count > header_at)
        if count <= header_at:
            append(model, NEW)
            assert model.read_bytes() == new


def test_a_crash_that_loses_any_of_the_unsynced_writes(model: Path) -> None:
    old = model.read_bytes()
    recorder = Recorder()
    append(model, NEW, recorder)
    first_sync = next(at for at, step in enumerate(recorder.steps) if step[0] == "sync")
    random.seed(0)
    for _ in range(50):
        kept = [step for step in recorder.steps[:first_sync] if random.random() < 0.5]
        model.write_bytes(replay(old, kept))
        assert "lora/x" not in open_archive(model, check="full").entries


def test_a_torn_header_is_refused_never_misread(model: Path) -> None:
    """Disks write a sector whole; were one not to, the CRC would tell."""
    old = model.read_bytes()
    append(model, NEW)
    new = model.read_bytes()
    for size in range(1, 64):
        mixed = new[:size] + old[size:64] + new[64:]
        model.write_bytes(mixed)
        if mixed[:64] in (old[:64], new[:64]):
            continue
        with pytest.raises(ArchiveError) as caught:
            open_archive(model)
        assert caught.value.code == "archive.header"


def test_killed_at_a_random_moment(model: Path) -> None:
    old = model.read_bytes()
    random.seed(2)

    def grow() -> None:
        append(model, [("lora/x", "adapter", (bytes(65536) for _ in range(50)))])

    for _ in range(30):
        model.write_bytes(old)
        kill_child_after(random.uniform(0, 0.02), grow)
        archive = open_archive(model, check="full")
        assert archive.manifest == archives.manifest()
        if "lora/x" not in archive.entries:
            assert model.read_bytes()[: len(old)] == old


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError("packing")])
def test_an_exception_leaves_the_old_bytes(model: Path, error: BaseException) -> None:
    old = model.read_bytes()

    def failing() -> Iterator[bytes]:
        yield bytes(100)
        raise error

    with pytest.raises(BaseException) as caught:
        append(model, [("a", "text", b"a"), ("b", "text", failing())])
    assert caught.type is (error if isinstance(error, type) else type(error))
    assert model.read_bytes() == old


def test_a_full_disk_leaves_the_old_bytes(model: Path) -> None:
    class Full(SystemFiles):
        def pwrite(self, descriptor: int, data: memoryview, offset: int) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

    old = model.read_bytes()
    with pytest.raises(ResourceError) as caught:
        append(model, NEW, Full())
    assert caught.value.code == "resource.disk_full"
    assert model.read_bytes() == old


def test_a_name_already_taken(model: Path) -> None:
    old = model.read_bytes()
    for name in ("manifest", "retired/1"):
        with pytest.raises(ArchiveError, match=name) as caught:
            append(model, [(name, "text", b"")])
        assert caught.value.code == "archive.duplicate"
    assert model.read_bytes() == old


def test_what_is_damaged_is_not_appended_to(model: Path) -> None:
    data = bytearray(model.read_bytes())
    data[70] ^= 1
    model.write_bytes(data)
    with pytest.raises(ArchiveError) as caught:
        append(model, NEW)
    assert caught.value.code == "archive.section_hash"
    assert model.read_bytes() == data


def test_one_append_at_a_time(model: Path) -> None:
    with model.open("rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(ResourceError) as caught:
            append(model, NEW)
    assert caught.value.code == "resource.busy"
    append(model, NEW)


def test_a_failed_append_frees_the_lock(model: Path) -> None:
    with pytest.raises(ArchiveError) as kept:
        append(model, [("manifest", "text", b"")])
    append(model, NEW)
    assert kept.value.code == "archive.duplicate"


def test_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ArchiveError) as caught:
        append(tmp_path / "none.har", NEW)
    assert caught.value.code == "archive.not_found"
    with pytest.raises(ResourceError) as unwritable:
        append(tmp_path, NEW)
    assert unwritable.value.code == "resource.unwritable"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everything")
def test_a_read_only_file(model: Path) -> None:
    model.chmod(0o400)
    with pytest.raises(ResourceError) as caught:
        append(model, NEW)
    assert caught.value.code == "resource.unwritable"
