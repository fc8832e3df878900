"""Adapters in saved contexts, prefix caches and conversations: what was read with one is never taken for another."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from support.adapted import with_adapters
from support.cuts import check_cut

from hearth.runtime import Model, load
from hearth.runtime.adapters import AdapterUse
from hearth.runtime.contexts.conversation import Conversation
from hearth.runtime.contexts.prefix_cache import PrefixCache
from hearth.runtime.contexts.saved import load_context, save_context
from hearth.schemas.errors import ArchiveError

if TYPE_CHECKING:
    from conftest import Archives

USES = (None, AdapterUse("poet"), AdapterUse("poet", 0.5), AdapterUse("clerk"))
IDS = np.random.default_rng(3).integers(3, 500, 60).tolist()


@pytest.fixture(scope="module")
def model(archives: Archives, tmp_path_factory: pytest.TempPathFactory) -> Model:
    folder = tmp_path_factory.mktemp("adapted")
    return load(with_adapters(archives, folder, {"poet": 1, "clerk": 2}), threads=2)


def test_a_context_cut_at_random_goes_on_with_its_adapters(model: Model, tmp_path: Path) -> None:
    for seed in range(60):
        check_cut(model, 500 + seed, tmp_path / "talk.ctx")


def test_an_archive_without_it_or_with_another_is_refused(
    model: Model, archives: Archives, tmp_path: Path
) -> None:
    session = model.session(adapter=AdapterUse("poet"))
    session.prefill(IDS)
    save_context(tmp_path / "talk.ctx", session)
    plain = load(archives("hearthside", weights="int4", kv="int8", context=256))
    other = load(with_adapters(archives, tmp_path, {"poet": 7}))
    for without in (plain, other):
        assert without.fingerprint == model.fingerprint
        with pytest.raises(ArchiveError) as found:
            load_context(tmp_path / "talk.ctx", without)
        assert found.value.code == "context.adapter"


def test_trap_a_prefix_read_with_another_adapter(model: Model) -> None:
    cache = PrefixCache(1 << 24)
    for use in (*USES, *USES[::-1]):
        session, fresh = model.session(adapter=use), model.session(adapter=use)
        ids = [*IDS, USES.index(use)]
        found = cache.fill(session, ids)
        assert np.array_equal(session.prefill(ids[found:]), fresh.prefill(ids))
        cache.keep(session)
    assert cache.stats.hits == 4


def say(talk: Conversation, text: str) -> str:
    return "".join(talk.send(text, max_tokens=15, temperature=0.8, seed=3))


def test_a_conversation_s_answers_are_its_adapter_s(model: Model) -> None:
    talk = model.conversation("switching")
    first = say(talk, "One")
    for use in USES[1:]:
        talk.use_adapter(use.name, use.scale)
        other = Conversation(model, "fresh", talk.messages)
        other.use_adapter(use.name, use.scale)
        assert say(talk, "Two") == say(other, "Two")
        talk.rewind()
    talk.use_adapter(None)
    talk.rewind()
    assert say(talk, "One") == first


def test_a_conversation_is_restored_with_its_adapter(model: Model, tmp_path: Path) -> None:
    talk = model.conversation("poet")
    talk.use_adapter("poet", 0.5)
    say(talk, "One")
    talk.save(tmp_path / "poet.ctx")
    again = load(model.archive.path).restore(tmp_path / "poet.ctx")
    assert again.adapter == AdapterUse("poet", 0.5)
    assert say(again, "Two") == say(talk, "Two")


def test_a_model_s_default_is_that_of_new_conversations(model: Model) -> None:
    model.use_adapter("clerk")
    try:
        assert model.conversation("late").adapter == AdapterUse("clerk")
    finally:
        model.use_adapter(None)


def test_trap_lora_state_that_leaks_into_a_fork_or_out_of_it(model: Model) -> None:
    """What a session and its fork read from there on is read with the adapter of each, to the bit."""
    session = model.session(adapter=AdapterUse("poet"))
    session.prefill(IDS[:20])
    fork = session.fork()
    assert fork.adapter == AdapterUse("poet")
    fork.use_adapter("clerk", 0.5)
    found = [each.prefill(IDS[20:40]) for each in (session, fork)]
    for use, logits in zip((AdapterUse("poet"), AdapterUse("clerk", 0.5)), found, strict=True):
        fresh = model.session(adapter=AdapterUse("poet"))
        fresh.prefill(IDS[:20])
        fresh.use_adapter(use.name, use.scale)
        assert np.array_equal(fresh.prefill(IDS[20:40]), logits)
    assert session.adapter == AdapterUse("poet")
    assert not np.array_equal(*found)


def test_trap_lora_state_that_leaks_between_conversations(model: Model) -> None:
    """A fork's adapter is its own; texts written by turns, with prefixes kept, are those of each alone."""
    first = model.conversation("first")
    first.use_adapter("poet")
    say(first, "One")
    second = model.conversations.fork("first", "second")
    second.use_adapter("clerk")
    found = [say(each, "Two") for each in (first, second, first)]
    assert first.adapter == AdapterUse("poet") and second.adapter == AdapterUse("clerk")
    for use, messages, text in (
        ("poet", first.messages[:2], found[0]),
        ("clerk", second.messages[:2], found[1]),
        ("poet", first.messages[:4], found[2]),
    ):
        alone = Conversation(load(model.archive.path), "alone", messages)
        alone.use_adapter(use)
        assert say(alone, "Two") == text
