"""Saved contexts: going on from a file gives what never stopping gives; a file that is not right changes nothing."""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from zlib import crc32

import msgpack
import numpy as np
import pytest
from numpy.typing import NDArray
from support.cuts import check_cut
from support.disk import mounted_disk
from support.fake_executor import FakeExecutor
from support.kv_archives import write_with_cache

from hearth.runtime import Model, load
from hearth.runtime.adapters import Adapter, AdapterUse
from hearth.runtime.archive.files import SystemFiles
from hearth.runtime.contexts.file import HEADER, MAGIC, write_parts
from hearth.runtime.contexts.saved import Context, Talk, Text, load_context, save_context
from hearth.runtime.generation.writing import Full, Request
from hearth.runtime.sampling import Chooser, Sampling
from hearth.runtime.session import Executor, Session
from hearth.schemas.commands import KVScheme
from hearth.schemas.errors import ArchiveError, HearthError, ResourceError

ADAPTERS = {name: Adapter(name, 4, name.encode().hex() * 4) for name in ("email", "poem")}
Logits = NDArray[np.float32]


def executor(**changes: Any) -> FakeExecutor:
    return FakeExecutor(adapters=ADAPTERS, **changes)


def read(executor: Executor[Any], ids: list[int]) -> Session[Any]:
    session = Session(executor)
    session.prefill(ids)
    return session


@pytest.fixture(scope="module", params=KVScheme, ids=lambda kv: kv.name.lower())
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Model:
    kv: KVScheme = request.param
    return load(write_with_cache(kv, tmp_path_factory.mktemp("kv") / "model.har"), threads=2)


def test_a_context_cut_at_random_goes_on_as_if_it_never_stopped(
    model: Model, tmp_path: Path
) -> None:
    """50 cuts for each of the four schemes of the cache."""
    for seed in range(50):
        check_cut(model, seed, tmp_path / "talk.ctx")


def test_adapters_are_kept_for_what_was_read_and_for_what_comes(tmp_path: Path) -> None:
    model = executor()
    for seed in range(100):
        check_cut(model, 1000 + seed, tmp_path / "talk.ctx")


@pytest.fixture
def saved(tmp_path: Path) -> tuple[Path, Model | FakeExecutor]:
    """A file with everything in it."""
    model = executor()
    session = read(model, [1, 2, 3])
    session.use_adapter("email", 0.5)
    session.prefill([4, 5])
    request = Request(9, frozenset((2, 3)), ("stop",), Sampling(seed=2**64 - 1), 2, Full.SLIDE)
    chooser = Chooser(request.sampling, (1, 2))
    chooser.choose(session.decode(6))
    messages = ({"role": "user", "content": "Hællo"}, {"role": "tool", "content": [{"n": 1.5}]})
    talk = Talk("alice", messages, ({"type": "function"},))
    path = tmp_path / "talk.ctx"
    save_context(path, session, Text(request, chooser.state(), True), talk)
    return path, model


def test_everything_survives(saved: tuple[Path, FakeExecutor]) -> None:
    path, model = saved
    context = load_context(path, model)
    assert context.snapshot.tokens == (1, 2, 3, 4, 5, 6)
    assert context.snapshot.readers == (None,) * 3 + (AdapterUse("email", 0.5),) * 3
    assert context.adapter == AdapterUse("email", 0.5)
    text, talk = context.text, context.talk
    assert text is not None
    assert talk is not None
    assert text.constrained
    assert text.request == Request(
        9, frozenset((2, 3)), ("stop",), Sampling(seed=2**64 - 1), 2, Full.SLIDE
    )
    assert text.chooser.prompt == 2
    assert talk.messages[0] == {"role": "user", "content": "Hællo"}
    assert talk.tools == ({"type": "function"},)


def refused(path: Path, model: Executor[Any]) -> str:
    with pytest.raises(ArchiveError) as found:
        load_context(path, model)
    assert str(path) in str(found.value)
    return found.value.code


def test_files_of_something_else_are_refused_by_name(
    saved: tuple[Path, FakeExecutor], tmp_path: Path
) -> None:
    path, model = saved
    assert refused(path, executor(fingerprint="cd" * 32)) == "context.archive"
    assert refused(path, executor(context=128)) == "context.layout"
    assert refused(path, FakeExecutor()) == "context.adapter"
    other = {**ADAPTERS, "email": replace(ADAPTERS["email"], sha256="00")}
    assert refused(path, FakeExecutor(adapters=other)) == "context.adapter"
    assert refused(path, executor(vocab=5)) == "context.schema"
    assert refused(tmp_path / "none.ctx", model) == "context.not_found"
    assert refused(tmp_path, model) == "context.not_found"
    (tmp_path / "text.ctx").write_text("You are a helpful assistant, are you not?" * 9)
    assert refused(tmp_path / "text.ctx", model) == "context.bad_magic"
    (tmp_path / "empty.ctx").write_bytes(b"")
    assert refused(tmp_path / "empty.ctx", model) == "context.bad_magic"


def test_another_version_is_refused_before_anything_else(saved: tuple[Path, FakeExecutor]) -> None:
    path, model = saved
    data = bytearray(path.read_bytes())
    data[8:12] = struct.pack("<I", 2)
    path.write_bytes(data)
    assert refused(path, model) == "context.version"


CODES = {"context.bad_magic", "context.version", "context.header", "context.truncated", "context.damaged"}  # fmt: skip


def corruptions(data: bytes, other: bytes) -> Iterator[tuple[str, bytes]]:
    """200 files that are not what was written: flipped bits, cuts, swapped headers, foreign parts, tails."""
    rng = np.random.default_rng(5)
    for place in [*range(64), *rng.integers(64, len(data), 60).tolist()]:
        flipped = bytearray(data)
        flipped[place] ^= 1 << int(rng.integers(8))
        yield f"flip at {place}", bytes(flipped)
    for end in [0, 1, 8, 63, 64, 65, len(data) - 1, *rng.integers(66, len(data) - 1, 43).tolist()]:
        yield f"cut at {end}", data[:end]
    for _ in range(20):
        start, size = rng.integers(64, len(data) - 8), int(rng.integers(1, 8))
        part = bytes(255 - byte for byte in data[start : start + size])
        yield f"other bytes at {start}", data[:start] + part + data[start + size :]
    yield "the header of another", other[:64] + data[64:]
    yield "the head of another", data[:64] + other[64:600] + data[600:]
    yield "doubled", data + data
    yield "a byte more", data + b"\0"
    yield "no header", data[64:]
    yield "reversed", data[::-1]


def test_200_corrupted_files_are_refused_and_change_nothing(
    saved: tuple[Path, FakeExecutor], tmp_path: Path
) -> None:
    path, model = saved
    session = read(model, [9, 8, 7])
    before = session.snapshot()
    twin = tmp_path / "twin.ctx"
    save_context(twin, read(model, [5, 6, 7, 8, 9, 1]), None, Talk("b", ()))
    bad = tmp_path / "bad.ctx"
    tried = list(corruptions(path.read_bytes(), twin.read_bytes()))
    assert len(tried) == 200
    for what, data in tried:
        bad.write_bytes(data)
        with pytest.raises(HearthError) as found:
            load_context(bad, model).restore_into(session)
        assert found.value.code in CODES, what
    assert session.tokens == before.tokens
    assert np.array_equal(session.snapshot().pieces[0].packed, before.pieces[0].packed)


def rewritten(path: Path, change: Callable[[dict[str, Any]], object], packed: bytes | None = None) -> None:  # fmt: skip
    """The file with another head and right checksums, as somebody might forge it."""
    data = path.read_bytes()
    _, _, _, size, nbytes, _ = HEADER.unpack(data[:64])
    head = msgpack.unpackb(data[64 : 64 + size])
    change(head)
    body = data[len(data) - nbytes :] if packed is None else packed
    write_parts(path, msgpack.packb(head), len(body), [np.frombuffer(body, np.uint8)])


def chooser(head: dict[str, Any], sampling: Mapping[str, Any] | None = None, **values: Any) -> None:
    """Another chooser in a head, which holds it as bytes."""
    plain = msgpack.unpackb(head["text"]["chooser"])
    plain["sampling"] |= sampling or {}
    head["text"]["chooser"] = msgpack.packb(plain | values)


@pytest.mark.parametrize(
    "change",
    [
        lambda head: head.pop("tokens"),
        lambda head: head.update(more=1),
        lambda head: head.update(tokens=[1, 2, 3]),
        lambda head: head.update(tokens=[-1] * 6),
        lambda head: head.update(tokens=[2**40] * 6),
        lambda head: head.update(tokens="abcdef"),
        lambda head: head.update(readers=[]),
        lambda head: head["readers"][0].update(tokens=2**60),
        lambda head: head["readers"][1]["adapter"].update(scale=float("nan")),
        lambda head: head["text"].update(chooser=b"no msgpack"),
        lambda head: head["text"].update(chooser=msgpack.packb({"tokens": []})),
        lambda head: head["readers"].extend([{"tokens": 2**40, "adapter": None}] * 9),
        lambda head: chooser(head, tokens=[float("inf")]),
        lambda head: chooser(head, tokens=[2**40]),
        lambda head: chooser(head, draws=float("nan")),
        lambda head: chooser(head, sampling={"top_k": 1.5}),
        lambda head: chooser(head, sampling={"seed": True}),
        lambda head: chooser(head, sampling={"banned": [2**40]}),
        lambda head: head["talk"].update(messages=['{"a":' * 10**5]),
        lambda head: head["text"].update(full="explode"),
        lambda head: head["text"].update(max_tokens=0),
        lambda head: head["talk"].update(messages=["[]"]),
        lambda head: head["talk"].update(messages=["{"]),
    ],
)
def test_a_forged_head_is_refused(
    saved: tuple[Path, FakeExecutor], change: Callable[[dict[str, Any]], object]
) -> None:
    path, model = saved
    rewritten(path, change)
    assert refused(path, model) == "context.schema"


def test_forged_sizes_are_refused(saved: tuple[Path, FakeExecutor]) -> None:
    path, model = saved
    rewritten(path, lambda head: None, b"x" * 95)
    assert refused(path, model) == "context.schema"
    for head, packed in ((2**63, 0), (2**62, 2**62), (0, 2**63)):
        bare = HEADER.pack(MAGIC, 1, 0, head, packed, bytes(32))
        path.write_bytes(bare[:12] + struct.pack("<I", crc32(bare)) + bare[16:])
        assert refused(path, model) in CODES


def test_trap_a_full_disk_leaves_the_old_file(tmp_path: Path) -> None:
    model = executor(context=4096)
    session = read(model, [1, 2, 3])
    with mounted_disk(tmp_path / "disk", "48k") as disk:
        path = disk / "talk.ctx"
        save_context(path, session)
        session.prefill(list(range(40)) * 100)
        with pytest.raises(ResourceError) as found:
            save_context(path, session)
        assert found.value.code == "resource.disk_full"
        assert [each.name for each in disk.iterdir()] == ["talk.ctx"]
        assert load_context(path, model).snapshot.tokens == (1, 2, 3)


class Failing(SystemFiles):
    """Fails in the n-th operation."""

    def __init__(self, at: int, error: BaseException) -> None:
        self.left, self.error = at, error

    def _count(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise self.error

    def pwrite(self, descriptor: int, data: memoryview, offset: int) -> None:
        self._count()
        super().pwrite(descriptor, data, offset)

    def fsync(self, descriptor: int) -> None:
        self._count()
        super().fsync(descriptor)


@pytest.mark.parametrize("at", range(5))
@pytest.mark.parametrize("error", [OSError(errno.EIO, "broken"), KeyboardInterrupt()])
def test_trap_an_interrupted_save_leaves_the_old_file(
    tmp_path: Path, at: int, error: BaseException
) -> None:
    model = executor()
    session, path = read(model, [1, 2, 3]), tmp_path / "talk.ctx"
    save_context(path, session)
    session.prefill([4])
    with pytest.raises((ResourceError, KeyboardInterrupt)):
        save_context(path, session, files=Failing(at, error))
    assert os.listdir(tmp_path) == ["talk.ctx"]
    assert load_context(path, model).snapshot.tokens == (1, 2, 3)


def test_a_place_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    session = read(executor(), [1])
    for path in (tmp_path, tmp_path / "no" / "talk.ctx"):
        with pytest.raises(ResourceError) as found:
            save_context(path, session)
        assert found.value.code == "resource.unwritable"


def test_the_same_context_is_the_same_bytes(tmp_path: Path) -> None:
    """What was rewound does not show."""
    model = executor()
    one, two = read(model, [1, 2, 3]), read(model, [1, 2, 3, 4, 5])
    two.rewind(3)
    save_context(tmp_path / "one.ctx", one)
    save_context(tmp_path / "two.ctx", two)
    assert (tmp_path / "one.ctx").read_bytes() == (tmp_path / "two.ctx").read_bytes()


def test_an_empty_session_can_be_saved(tmp_path: Path) -> None:
    model = executor()
    save_context(tmp_path / "none.ctx", Session(model))
    context: Context = load_context(tmp_path / "none.ctx", model)
    assert context.session(model).tokens == ()
