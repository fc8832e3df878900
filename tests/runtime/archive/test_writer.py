"""The writer leaves a whole archive under its name or nothing at all, whatever stops it."""

from __future__ import annotations

import errno
import os
import random
import resource
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from support import archives
from support.disk import mounted_disk
from support.forks import in_child, kill_child_after

from hearth.runtime.archive import ArchiveWriter, open_archive
from hearth.runtime.archive.files import SystemFiles
from hearth.runtime.archive.reader import open_container
from hearth.schemas.errors import ArchiveError, ResourceError

both = pytest.mark.parametrize("unnamed", [True, False], ids=["unnamed", "partial"])


class StoppingFiles(SystemFiles):
    """Raises at the n-th operation, after half of a write was done."""

    piece = 64

    def __init__(self, at: int, error: BaseException) -> None:
        self.left, self.error = at, error

    def _step(self) -> bool:
        self.left -= 1
        return self.left < 0

    def pwrite(self, descriptor: int, data: memoryview, offset: int) -> None:
        if self._step():
            super().pwrite(descriptor, data[: data.nbytes // 2], offset)
            raise self.error
        super().pwrite(descriptor, data, offset)

    def fsync(self, descriptor: int) -> None:
        if self._step():
            raise self.error
        super().fsync(descriptor)


def has_unnamed_files(folder: Path) -> bool:
    try:
        os.close(os.open(folder, os.O_TMPFILE | os.O_RDWR))
    except OSError:
        return False
    return True


def chunks(count: int, nbytes: int = 65536) -> Iterator[bytes]:
    for number in range(count):
        yield bytes([number % 256]) * nbytes


@both
def test_two_writes_give_the_same_bytes(tmp_path: Path, unnamed: bool) -> None:
    first = archives.write_model(tmp_path / "first.har").read_bytes()
    path = tmp_path / "another name.har"
    archives.write(path, archives.model_sections(), unnamed=unnamed)
    assert path.read_bytes() == first


def test_chunks_and_one_buffer_give_the_same_bytes(tmp_path: Path) -> None:
    whole = b"".join(chunks(5, 1000))
    archives.write(tmp_path / "a.har", [("weights/x", "weights", whole)])
    with ArchiveWriter(tmp_path / "b.har") as writer:
        writer.add("weights/x", "weights", chunks(5, 1000))
    assert (tmp_path / "a.har").read_bytes() == (tmp_path / "b.har").read_bytes()


def test_every_kind_of_buffer(tmp_path: Path) -> None:
    numbers = np.arange(6, dtype=np.float32).reshape(2, 3)
    with ArchiveWriter(tmp_path / "a.har") as writer:
        writer.add("array", "text", numbers)
        writer.add(
            "arrays", "text", [numbers.astype(np.float16), np.empty((0, 3)), bytearray(b"x")]
        )
        writer.add("view", "text", memoryview(numbers.tobytes()))
        writer.add("empty", "text", b"")
        last = writer.add("nothing", "text", [])
    container = open_container(tmp_path / "a.har", "full")
    assert container.section("array") == container.section("view") == numbers.tobytes()
    assert container.entries["arrays"].nbytes == 13
    assert container.entries["nothing"] == last


def test_weights_are_streamed(tmp_path: Path) -> None:
    """A chunk is on its way before the next one is asked for."""
    with ArchiveWriter(tmp_path / "a.har") as writer:

        def counted() -> Iterator[bytes]:
            for number in range(8):
                assert writer.nbytes == 4096 + number * 1000
                yield bytes(1000)

        writer.add("a", "text", b"1")
        section = writer.add("weights/x", "weights", counted())
    assert (section.offset, section.nbytes) == (4096, 8000)


@both
def test_an_old_output_is_replaced(tmp_path: Path, unnamed: bool) -> None:
    path = tmp_path / "a.har"
    path.write_bytes(b"old")
    archives.write(path, archives.model_sections(), unnamed=unnamed)
    assert open_archive(path, "full").manifest.family == "llama"
    assert os.listdir(tmp_path) == ["a.har"]


@both
def test_the_output_has_ordinary_permissions(tmp_path: Path, unnamed: bool) -> None:
    archives.write(tmp_path / "a.har", [], unnamed=unnamed)
    (tmp_path / "plain").write_text("")
    assert (tmp_path / "a.har").stat().st_mode == (tmp_path / "plain").stat().st_mode


@both
@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError, RuntimeError("packing")])
@pytest.mark.parametrize("old", [None, b"old"])
def test_an_exception_leaves_what_was_there(
    tmp_path: Path, unnamed: bool, error: BaseException, old: bytes | None
) -> None:
    path = tmp_path / "a.har"
    if old:
        path.write_bytes(old)

    def failing() -> Iterator[bytes]:
        yield bytes(100)
        raise error

    with (
        pytest.raises(BaseException) as caught,
        ArchiveWriter(path, unnamed=unnamed) as writer,
    ):
        writer.add("a", "text", failing())
    assert caught.type is (error if isinstance(error, type) else type(error))
    assert os.listdir(tmp_path) == (["a.har"] if old else [])
    assert not old or path.read_bytes() == old


@both
@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(errno.EIO, "Input/output error")])
def test_a_stop_at_any_operation_leaves_nothing(
    tmp_path: Path, unnamed: bool, error: BaseException
) -> None:
    path = tmp_path / "a.har"
    for at in range(100):
        try:
            files = StoppingFiles(at, error)
            archives.write(path, archives.model_sections(), unnamed=unnamed, files=files)
        except (KeyboardInterrupt, ResourceError):
            assert os.listdir(tmp_path) == []
        else:
            break
    assert at > 10
    assert os.listdir(tmp_path) == ["a.har"]


@both
def test_killed_at_a_random_moment(tmp_path: Path, unnamed: bool) -> None:
    path = tmp_path / "a.har"
    random.seed(0)
    if unnamed and not has_unnamed_files(tmp_path):
        pytest.skip("this filesystem has no O_TMPFILE")

    def write() -> None:
        with ArchiveWriter(path, unnamed=unnamed) as writer:
            writer.add("weights/x", "weights", chunks(100))

    start = time.perf_counter()
    write()
    whole = time.perf_counter() - start
    finished = 0
    for _ in range(30):
        path.unlink(missing_ok=True)
        kill_child_after(random.uniform(0, 1.5 * whole), write)
        left = {name for name in os.listdir(tmp_path) if name != "a.har"}
        assert all(name.startswith(".a.har.") and name.endswith(".partial") for name in left)
        assert not left or not unnamed
        for name in left:
            (tmp_path / name).unlink()
        if path.exists():
            finished += 1
            open_container(path, "full")
    assert finished < 30


def test_killed_while_replacing_an_old_output(tmp_path: Path) -> None:
    path = tmp_path / "a.har"
    random.seed(1)
    archives.write(path, [("old", "text", b"old")])
    for _ in range(15):
        kill_child_after(
            random.uniform(0, 0.02), lambda: archives.write(path, archives.model_sections())
        )
        names = list(open_container(path, "full").entries)
        assert names in (["old"], [name for name, _, _ in archives.model_sections()])


def test_the_same_name_twice(tmp_path: Path) -> None:
    with pytest.raises(ArchiveError) as caught:
        archives.write(tmp_path / "a.har", [("a", "text", b""), ("a", "text", b"")])
    assert caught.value.code == "archive.duplicate"
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(("name", "kind"), [("", "text"), ("a b", "text"), ("a", "Text")])
def test_ill_formed_names_are_a_bug(tmp_path: Path, name: str, kind: str) -> None:
    with pytest.raises(ValueError, match=r"named|kind"):
        archives.write(tmp_path / "a.har", [(name, kind, b"")])


def test_no_tmpfile_on_this_filesystem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, seen = os.open, []

    def refusing(path: object, flags: int, *rest: int, **options: int) -> int:
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            raise OSError(errno.EOPNOTSUPP, "Operation not supported")
        seen.append(str(path))
        return real(path, flags, *rest, **options)  # type: ignore[call-overload, no-any-return]

    monkeypatch.setattr(os, "open", refusing)
    archives.write_model(tmp_path / "a.har")
    assert any(name.endswith(".partial") for name in seen)
    assert os.listdir(tmp_path) == ["a.har"]


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match="No such file") as caught:
        archives.write_model(tmp_path / "none" / "a.har")
    assert caught.value.code == "resource.unwritable"
    assert caught.value.exit_code == 6


@both
@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo])
def test_no_regular_file_under_that_name(
    tmp_path: Path, unnamed: bool, make: Callable[[Path], None]
) -> None:
    make(tmp_path / "a.har")
    with pytest.raises(ResourceError, match="no regular file") as caught:
        archives.write(tmp_path / "a.har", [], unnamed=unnamed)
    assert caught.value.code == "resource.unwritable"
    assert os.listdir(tmp_path) == ["a.har"]


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "link.har").symlink_to(tmp_path / "real.har")
    archives.write_model(tmp_path / "link.har")
    assert (tmp_path / "link.har").is_symlink()
    assert not (tmp_path / "real.har").is_symlink()
    assert open_archive(tmp_path / "link.har", "full").manifest.source == "tiny"


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="no /proc")
def test_a_folder_nobody_may_write(tmp_path: Path) -> None:
    with pytest.raises(ResourceError) as caught:
        archives.write_model(Path("/proc/a.har"))
    assert caught.value.code == "resource.unwritable"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(ResourceError) as caught:
        archives.write_model(tmp_path / "a.har")
    assert caught.value.code == "resource.unwritable"


def test_more_than_the_disk_holds_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match=str(2**60)) as caught:
        archives.write(tmp_path / "a.har", [], expected_nbytes=2**60)
    assert caught.value.code == "resource.disk_full"
    assert os.listdir(tmp_path) == []


@both
def test_a_limit_on_file_sizes(tmp_path: Path, unnamed: bool) -> None:
    def limited() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
        with (
            pytest.raises(ResourceError, match=r"a\.har") as caught,
            ArchiveWriter(tmp_path / "a.har", unnamed=unnamed) as writer,
        ):
            writer.add("weights/x", "weights", chunks(20))
        assert caught.value.code == "resource.disk_full"
        assert os.listdir(tmp_path) == []

    in_child(limited)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A filesystem of 1 MiB."""
    with mounted_disk(tmp_path / "disk", "1m") as folder:
        yield folder


@both
def test_a_full_disk(small_disk: Path, unnamed: bool) -> None:
    path = small_disk / "a.har"
    path.write_bytes(b"old")
    with (
        pytest.raises(ResourceError, match=r"a\.har") as caught,
        ArchiveWriter(path, unnamed=unnamed) as writer,
    ):
        writer.add("weights/x", "weights", chunks(20))
    assert caught.value.code == "resource.disk_full"
    assert caught.value.exit_code == 6
    assert os.listdir(small_disk) == ["a.har"]
    assert path.read_bytes() == b"old"
    assert os.statvfs(small_disk).f_bfree * 4096 >= (1 << 20) - 2 * 4096
