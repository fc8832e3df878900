"""An archive's pages: read at load, locked, counted; nothing of it changes what is read."""

from __future__ import annotations

import os
import resource
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import Archives
from support.forks import in_child

from hearth.runtime import load, native
from hearth.runtime.archive import open_archive
from hearth.runtime.machine.residence import HUGE, MappedMemory, mapped_memory
from hearth.schemas.errors import ResourceError


class Told:
    """Remembers what it was told of."""

    def __init__(self) -> None:
        self.titles: list[str] = []
        self.units = 0

    def start(self, title: str, total_units: int) -> None:
        self.titles.append(title)

    def advance(self, units: int) -> None:
        self.units += units

    def done(self) -> None:
        pass


def big_file(folder: Path, nbytes: int = 5 * HUGE + 12345) -> Path:
    path = folder / "big"
    path.write_bytes(np.arange(nbytes, dtype=np.uint8).tobytes())
    return path


def mapped(path: Path) -> native.Mapping:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return native.Mapping(descriptor, path.stat().st_size)
    finally:
        os.close(descriptor)


def test_a_mapping_is_the_file_at_an_address_for_huge_pages(tmp_path: Path) -> None:
    path = big_file(tmp_path)
    array = mapped(path).array()  # which keeps the mapping
    assert array.ctypes.data % HUGE == 0
    assert not array.flags.writeable
    assert array.tobytes() == path.read_bytes()


def test_every_way_of_reading_leaves_the_bytes(tmp_path: Path) -> None:
    path = big_file(tmp_path)
    mapping = mapped(path)
    assert mapping.sees_the_cache
    mapping.populate(1, 3 * HUGE)
    mapping.populate(10 * HUGE, HUGE)  # beyond the end there is nothing to do
    mapping.forget()
    assert mapping.array().tobytes() == path.read_bytes()


def test_what_is_cached_is_mapped_beside_other_work(archives: Archives) -> None:
    """Until the first run, which may come at once; in a forked child, too."""
    path = archives("hearthside", weights="int4")
    want = load(path).session().prefill([4, 5, 6])
    for pause in (0.0, 0.02):
        model = load(path)
        time.sleep(pause)
        assert np.array_equal(model.session().prefill([4, 5, 6]), want)
    for _ in range(20):
        load(path)
    model = load(path)
    in_child(model.engine.map_cached)
    in_child(lambda: model.session().prefill([4, 5, 6]))
    found = None
    for _ in range(200):
        found = mapped_memory(load(path).archive.mapping)
        assert found is not None
        if found.resident_nbytes > model.archive.program.weights_nbytes:
            break
        time.sleep(0.01)
    else:
        pytest.fail("the weights were not mapped")


def test_what_cannot_be_mapped_is_an_oserror(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="Bad file descriptor"):
        native.Mapping(10**6, 4096)
    (tmp_path / "empty").touch()
    with pytest.raises(OSError, match="Invalid argument"):
        mapped(tmp_path / "empty")


def test_prefault_maps_all_and_tells(archives: Archives) -> None:
    path, told = archives("hearthside", weights="int4"), Told()
    model = load(path, prefault=True, progress=told)
    found = mapped_memory(model.archive.mapping)
    assert found is not None
    assert (found.nbytes, found.locked_nbytes) == (path.stat().st_size, 0)
    assert found.resident_nbytes >= found.nbytes // 4096 * 4096
    assert (told.titles, told.units) == (["read the archive"], found.nbytes)


def test_lock_and_huge_pages_change_no_result(archives: Archives) -> None:
    path = archives("hearthside", weights="int4")
    want = load(path).session().prefill([4, 5, 6])
    model = load(path, lock=True, huge_pages=True)
    assert np.array_equal(model.session().prefill([4, 5, 6]), want)
    found = mapped_memory(model.archive.mapping)
    assert found is not None
    assert found.locked_nbytes >= found.nbytes // 4096 * 4096


def test_a_limit_of_locked_memory(archives: Archives) -> None:
    """Root may lock whatever the limit, hence another user."""
    path = archives("hearthside", weights="int4")
    path.parent.chmod(0o755)
    descriptor = os.open(path, os.O_RDONLY)

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (65536, 65536))
        if os.geteuid() == 0:
            os.setresuid(65534, 65534, 65534)
        with pytest.raises(ResourceError) as refused:
            load(f"/proc/self/fd/{descriptor}", lock=True)
        assert refused.value.code == "resource.lock"
        assert "65,536 bytes" in str(refused.value)

    in_child(limited)
    os.close(descriptor)


def test_pages_are_counted_as_the_kernel_says(tmp_path: Path, archives: Archives) -> None:
    mapping = open_archive(archives("hearthside", weights="int4")).mapping
    start = mapping.array().ctypes.data
    other = "1000-2000 r--s 00000000 fe:00 7 /other\nRss:  4 kB\nFilePmdMapped:  9 kB\n"
    own = f"{start:x}-{start + 4096:x} r--s 00000000 fe:00 7 /a b.har\nSize: 99 kB\nRss: 8 kB\n"
    rest = "FilePmdMapped:  2 kB\nLocked:  3 kB\nVmFlags: rd mr\n"
    smaps = tmp_path / "smaps"
    smaps.write_text(own + rest + other)
    nbytes = mapping.array().nbytes
    assert mapped_memory(mapping, smaps) == MappedMemory(nbytes, 8192, 2048, 3072)
    smaps.write_text(other)
    assert mapped_memory(mapping, smaps) is None
    assert mapped_memory(mapping, tmp_path / "none") is None
