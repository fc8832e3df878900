"""Snapshots and forks: a session that goes on from one gives the bits of a session that never stopped."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from support.fake_executor import FakeExecutor
from support.kv_archives import write_with_cache

from hearth.runtime import Model, load, native
from hearth.runtime.contexts.snapshot import Snapshot
from hearth.runtime.session import Session
from hearth.schemas.commands import KVScheme
from hearth.schemas.errors import InputError, UsageError

IDS = np.random.default_rng(3).integers(3, 500, 100).tolist()


@pytest.fixture(scope="module", params=KVScheme, ids=lambda kv: kv.name.lower())
def path(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    kv: KVScheme = request.param
    return write_with_cache(kv, tmp_path_factory.mktemp("kv") / "model.har")


@pytest.fixture(params=native.isas())
def model(path: Path, request: pytest.FixtureRequest) -> Model:
    return load(path, threads=2, isa=request.param)


def dirtied(model: Model) -> Session[native.State]:
    """A session whose cache holds something else at every position."""
    session = model.session()
    session.prefill([7] * model.context)
    session.rewind(0)
    return session


def packed(snapshot: Snapshot) -> NDArray[np.uint8]:
    (piece,) = snapshot.pieces
    return piece.packed


@pytest.mark.parametrize("cut", [1, 15, 16, 17, 64, 90])
def test_restored_then_decoded_equals_uninterrupted(model: Model, cut: int) -> None:
    session = model.session()
    session.prefill(IDS[:cut])
    snapshot = session.snapshot()
    want = [session.decode(token) for token in IDS[cut : cut + 5]]
    other = dirtied(model)
    snapshot.restore_into(other)
    assert other.tokens == tuple(IDS[:cut])
    for token, logits in zip(IDS[cut : cut + 5], want, strict=True):
        assert np.array_equal(other.decode(token), logits)


@pytest.mark.parametrize("count", [0, 1, 16, 37])
def test_the_first_tokens_of_a_snapshot_are_a_snapshot(model: Model, count: int) -> None:
    session = model.session()
    session.prefill(IDS[:80])
    other = dirtied(model)
    other.restore(session.snapshot(), count)
    fresh = model.session()
    if count:
        fresh.prefill(IDS[:count])
    assert np.array_equal(other.prefill(IDS[count:90]), fresh.prefill(IDS[count:90]))
    assert np.array_equal(packed(other.snapshot(count)), packed(session.snapshot(count)))


def test_forks_are_apart(model: Model) -> None:
    session = model.session()
    session.prefill(IDS[:50])
    one, two = session.fork(), session.fork()
    one.prefill([5, 6, 7])
    session.rewind(3)
    session.prefill([9] * 60)
    fresh = model.session()
    fresh.prefill(IDS[:50])
    assert np.array_equal(two.prefill([8, 9]), fresh.prefill([8, 9]))


def test_a_snapshot_stays_what_it_was() -> None:
    session = Session(FakeExecutor())
    session.prefill([1, 2, 3])
    snapshot = session.snapshot(2)
    session.rewind(0)
    session.prefill([9, 9, 9])
    with pytest.raises(ValueError, match="read-only"):
        packed(snapshot)[0] = 1
    session.restore(snapshot)
    assert session.tokens == (1, 2)
    assert np.array_equal(session.decode(3), FakeExecutor().logits(np.array([1, 2, 3])))


def test_a_snapshot_of_another_archive_is_refused() -> None:
    session = Session(FakeExecutor())
    session.prefill([1, 2, 3])
    other = Session(FakeExecutor(fingerprint="cd" * 32))
    other.prefill([4])
    with pytest.raises(UsageError) as refused:
        other.restore(session.snapshot())
    assert refused.value.code == "arguments.snapshot"
    assert other.tokens == (4,)


@pytest.mark.parametrize("count", [-1, 4])
def test_counts_beyond_the_tokens_are_refused(count: int) -> None:
    session = Session(FakeExecutor())
    session.prefill([1, 2, 3])
    snapshot = session.snapshot()
    for call in (session.snapshot, snapshot.first, lambda n: session.restore(snapshot, n)):
        with pytest.raises(InputError) as refused:
            call(count)
        assert refused.value.code == "input.position"
    assert session.tokens == (1, 2, 3)
