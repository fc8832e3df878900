"""The prefix cache: what is kept, what goes first, and that nothing that comes out of a session depends on it."""

from __future__ import annotations

import gc
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.fake_executor import FakeExecutor, FakeState
from support.kv_archives import write_with_cache

from hearth.runtime import Model, load
from hearth.runtime.adapters import Adapter, AdapterUse
from hearth.runtime.contexts.prefix_cache import Node, PrefixCache
from hearth.runtime.session import Session
from hearth.schemas.commands import KVScheme

POSITION = 16  # bytes of one in a FakeExecutor
EMAIL = AdapterUse("email")


def executor() -> FakeExecutor:
    return FakeExecutor(adapters={"email": Adapter("email", 4, "ef" * 32)})


def read(
    cache: PrefixCache,
    model: FakeExecutor,
    ids: Sequence[int],
    adapter: AdapterUse | None = None,
) -> tuple[int, Session[FakeState]]:
    """Read a prompt as the scheduler does; the tokens that the cache had."""
    session = Session(model, adapter=adapter)
    found = cache.fill(session, ids)
    session.prefill(ids[found:])
    cache.keep(session)
    return found, session


def test_a_shared_beginning_is_read_once() -> None:
    cache, model = PrefixCache(1 << 20), executor()
    system = list(range(20))
    assert read(cache, model, [*system, 30])[0] == 0
    assert read(cache, model, [*system, 31, 32])[0] == 20
    assert read(cache, model, [*system, 31, 32, 33])[0] == 22
    assert read(cache, model, [*system, 30, 5])[0] == 21
    assert read(cache, model, system[:10])[0] == 9, "the last token is always read"
    assert read(cache, model, [40, *system])[0] == 0
    stats = cache.stats
    assert stats.nbytes == POSITION * (21 + 2 + 1 + 1 + 21), "each token is kept once"
    assert (stats.asked, stats.hits, stats.tokens) == (6, 4, 20 + 22 + 21 + 9)


def test_the_least_recently_used_go_first() -> None:
    cache, model = PrefixCache(POSITION * 30), executor()
    one, two, three = [1] * 10, [2] * 10, [3] * 10
    for ids in (one, two, three, one):
        read(cache, model, ids)
    read(cache, model, [4] * 10)
    assert [cache.best(ids, None) for ids in (one, two, three)] == [10, 0, 10]
    assert cache.stats.nbytes == POSITION * 30
    assert cache.stats.dropped == 1


def test_a_beginning_stays_while_something_follows_it() -> None:
    cache, model = PrefixCache(POSITION * 30), executor()
    read(cache, model, [1] * 10)
    read(cache, model, [1] * 10 + [2] * 10)
    read(cache, model, [3] * 10)
    read(cache, model, [4] * 10)
    assert cache.best([1] * 10 + [2] * 10, None) == 10
    assert cache.best([4] * 10, None) == 10


def test_what_does_not_fit_drops_nothing() -> None:
    cache, model = PrefixCache(POSITION * 20), executor()
    read(cache, model, [1] * 10)
    read(cache, model, [2] * 21)
    assert cache.best([1] * 10, None) == 10
    assert cache.best([2] * 21, None) == 0
    assert PrefixCache(0).best([1], None) == 0


def test_trap_a_prefix_of_another_adapter_is_another_prefix() -> None:
    cache, model = PrefixCache(1 << 20), executor()
    ids = list(range(20))
    read(cache, model, ids)
    assert read(cache, model, ids, EMAIL)[0] == 0
    assert read(cache, model, ids, AdapterUse("email", 0.5))[0] == 0
    assert read(cache, model, ids, EMAIL)[0] == 19


def test_scales_that_come_and_go_leave_nothing() -> None:
    cache, model = PrefixCache(POSITION * 30), executor()

    def nodes() -> int:
        gc.collect()
        return sum(isinstance(each, Node) for each in gc.get_objects())

    before = nodes()
    for number in range(40):
        read(cache, model, list(range(10)), AdapterUse("email", float(number)))
    assert nodes() - before == 2 * cache.stats.entries == 6, "three scales, each with its root"
    assert read(cache, model, list(range(10)), AdapterUse("email", 39.0))[0] == 9


def test_a_session_that_changed_its_adapter_is_kept_up_to_there() -> None:
    cache, model = PrefixCache(1 << 20), executor()
    session = Session(model)
    session.prefill(list(range(10)))
    session.use_adapter("email")
    session.prefill(list(range(10, 20)))
    cache.keep(session)
    assert cache.best(list(range(20)), None) == 10
    assert cache.best(list(range(20)), EMAIL) == 0
    assert cache.fill(session, list(range(20))) == 0, "its own tokens were read otherwise"


def test_a_session_s_own_tokens_are_used_first() -> None:
    cache, model = PrefixCache(0), executor()
    session = Session(model)
    session.prefill(list(range(20)))
    assert cache.fill(session, [*range(12), 40, 41]) == 12
    assert session.tokens == tuple(range(12))


def test_sessions_of_many_threads_share_a_cache() -> None:
    cache, model = PrefixCache(POSITION * 100), executor()

    def work(seed: int) -> None:
        rng = np.random.default_rng(seed)
        for _ in range(50):
            ids = [*range(int(rng.integers(1, 30))), int(rng.integers(30, 50))]
            session = read(cache, model, ids)[1]
            got = session.decode(7)
            wrong.extend([] if np.array_equal(got, model.logits(np.array([*ids, 7]))) else [ids])

    wrong: list[list[int]] = []
    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert cache.stats.nbytes <= cache.nbytes


@pytest.fixture(scope="module", params=KVScheme, ids=lambda kv: kv.name.lower())
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Model:
    kv: KVScheme = request.param
    path: Path = write_with_cache(kv, tmp_path_factory.mktemp("kv") / "model.har")
    return load(path, threads=2)


@settings(max_examples=15, deadline=None)
@given(
    prompts=st.lists(
        st.tuples(st.integers(0, 40), st.integers(0, 3), st.integers(1, 30)), min_size=2, max_size=8
    ),
    room=st.integers(20, 200),
)
def test_trap_output_that_changes_with_cache_hits(
    model: Model, prompts: list[tuple[int, int, int]], room: int
) -> None:
    """Prompts that share beginnings of all lengths, cache large and small: always the bits of a fresh session."""
    cache = PrefixCache(room * 500)
    for shared, variant, own in prompts:
        text = np.random.default_rng(0).integers(3, 500, shared).tolist()
        ids = text + np.random.default_rng(variant + 1).integers(3, 500, own).tolist()
        session = model.session()
        found = cache.fill(session, ids)
        logits = session.prefill(ids[found:])
        fresh = model.session()
        assert np.array_equal(logits, fresh.prefill(ids))
        assert np.array_equal(session.decode(9), fresh.decode(9))
        cache.keep(session)


def test_what_is_pinned_is_never_dropped_and_not_counted() -> None:
    model = executor()
    session = Session(model)
    session.prefill(list(range(10)))
    cache = PrefixCache(POSITION * 5, pinned=[session.snapshot()])
    assert cache.stats.nbytes == 0
    assert read(cache, model, [*range(10), 20, 21])[0] == 10
    assert read(cache, model, [*range(10), 30, 31, 32, 33])[0] == 10
    cache.clear()
    assert cache.best(list(range(10)), None) == 10
