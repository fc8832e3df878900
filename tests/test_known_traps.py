"""The failures that users of this field's tools report most, by name; each points at what guards it in depth."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from conftest import Archives
from support.command_line import hearth
from support.desk import Desk, make_desk
from support.lora import Peft, write_peft
from tokenizers import Tokenizer

from hearth.compiler.lora.add import add_adapter
from hearth.runtime import (
    AdapterUse,
    Full,
    Model,
    PrefixCache,
    load,
    load_context,
    native,
    save_context,
)
from hearth.runtime.archive import open_archive
from hearth.runtime.sampling import Chooser, Sampling
from hearth.runtime.serving.scheduler import Event, Job, Piece, Scheduler
from hearth.runtime.text.detokenizer import spell_ids
from hearth.schemas.errors import ArchiveError, InputError

SOURCE = Path(__file__).parent.parent / "models/hearthside"
TEXT = "Once upon a time, there was a little fox.  \n“Hello,” she said in a naïve café 😀, 12345!"


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    return make_desk(tmp_path_factory.mktemp("traps"))


def test_conversion_killed_for_memory_with_no_message(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is told before the work starts, with the numbers (tests/test_bad_machine.py does it for real)."""
    monkeypatch.setattr("hearth.compiler.memory.available_nbytes", lambda: 1000)
    before = desk.listing()
    assert hearth(*desk.compile()) == 6
    said = capsys.readouterr().err
    assert "resource.memory" in said
    assert "the machine leaves" in said
    assert desk.listing() == before


def test_archive_and_runtime_versions_that_mismatch_with_an_opaque_code(
    desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    assert hearth(*desk.archive_header(version=7)) == 4
    said = capsys.readouterr().err
    assert "version 7" in said
    assert "archive.version" in said
    assert "hearth" in said.split(":", 2)[-1]  # what to install or to compile again


@pytest.mark.parametrize("weights", ["f32", "f16", "int8", "int4"])
@pytest.mark.parametrize("kv", ["f32", "f16", "int8"])
def test_garbage_on_one_isa_or_bit_width(archives: Archives, weights: str, kv: str) -> None:
    """The same bits on all (tests/runtime/test_one_arithmetic.py), and close to the float model."""
    path, ids = archives("hearthside", weights=weights, kv=kv), list(range(4, 40))
    found = [load(path, isa=isa).session().prefill(ids) for isa in native.isas()]
    assert all(np.array_equal(logits, found[0]) for logits in found)
    exact = load(archives("hearthside", weights="f32", kv="f32")).session().prefill(ids)
    cosine = found[0] @ exact / np.linalg.norm(found[0]) / np.linalg.norm(exact)
    assert cosine > np.cos(np.pi / 8)  # garbage is at right angles to it


def test_a_tokenizer_that_drifts_from_the_checkpoints(archives: Archives) -> None:
    """tests/parity compares with transformers, tests/runtime/text/test_tokenizer.py with other engines' ids."""
    model = load(archives("hearthside", weights="int4"))
    theirs = Tokenizer.from_file(str(SOURCE / "tokenizer.json"))
    ids = theirs.encode(TEXT).ids
    assert model.encode(TEXT) == ids
    assert model.tokenizer.decode(ids) == theirs.decode(ids)


def test_a_first_load_that_repacks_the_weights(archives: Archives) -> None:
    """The kernels read the file's own pages: the weights' addresses lie in its mapping."""
    path = archives("hearthside", weights="int4")
    archive = open_archive(path)
    weights = np.frombuffer(archive.weights(), np.uint8)
    first, last = weights.ctypes.data, weights.ctypes.data + weights.nbytes
    spans = [
        [int(end, 16) for end in line.split()[0].split("-")]
        for line in Path("/proc/self/maps").read_text().splitlines()
        if line.endswith(str(path))
    ]
    assert any(low <= first and last <= high for low, high in spans)
    assert not weights.flags.writeable


def test_output_that_changes_with_the_thread_count_or_the_chunk(archives: Archives) -> None:
    path, ids = archives("hearthside", weights="int4"), list(range(4, 204))
    one = load(path, threads=1).session().prefill(ids, chunk=1)
    for threads, chunk in ((2, 7), (3, 64), (1, 128)):
        assert np.array_equal(load(path, threads=threads).session().prefill(ids, chunk=chunk), one)


def test_a_conversation_that_goes_wrong_after_a_rewind(archives: Archives) -> None:
    session = load(archives("hearthside", weights="int4")).session()
    first = session.prefill(list(range(4, 60)))
    session.decode(5)
    session.rewind(20)
    assert np.array_equal(session.prefill(list(range(24, 60))), first)


def test_an_affinity_flag_that_does_nothing(
    archives: Archives, capsys: pytest.CaptureFixture[str]
) -> None:
    """The kernel is asked where the threads were (tests/runtime/test_placement.py looks into running ones)."""
    path = str(archives("hearthside", weights="int4"))
    for core in sorted(os.sched_getaffinity(0))[:2]:
        assert (
            hearth("run", path, "Once", "--max-tokens", "3", "--json", "--affinity", str(core)) == 0
        )
        phases = json.loads(capsys.readouterr().out)["affinity"]
        assert set(phases) == {"prefill", "decode"}
        for phase in phases.values():
            assert phase["asked"]
            assert phase["threads"] == [{"allowed": [core], "ran_on": [core]}]


def _answers(model: Model, ids: list[int], uses: list[AdapterUse | None]) -> list[int]:
    """The first token of each of these jobs, all of them at once."""
    request = model.request(max_tokens=1, temperature=0.0)
    events: list[list[Event]] = [[] for _ in uses]
    scheduler = Scheduler(model, rows=4)
    for use, found in zip(uses, events, strict=True):
        scheduler.submit(Job(tuple(ids), request, adapter=use, decode=spell_ids), found.append)
    scheduler.close(60.0)
    return [each.choice.token for found in events for each in found if isinstance(each, Piece)][
        : len(uses)
    ]


def test_lora_state_leaks_between_requests(archives: Archives, tmp_path: Path) -> None:
    """What one request read with an adapter, another does not see (tests/runtime/lora has more), cancelled ones too."""
    path = tmp_path / "adapted.har"
    path.write_bytes(archives("hearthside", weights="int8").read_bytes())
    for seed, name in enumerate(("poet", "clerk")):
        folder = write_peft(tmp_path / name, SOURCE, Peft(seed=seed))
        add_adapter(open_archive(path), name, folder)
    ids, uses = list(range(4, 40)), [None, AdapterUse("poet"), AdapterUse("clerk"), None]
    expected = [load(path).session(adapter=use).prefill(ids) for use in uses]
    model = load(path)
    answers = _answers(model, ids, uses * 3)
    greedy = [int(logits.argmax()) for logits in expected]
    assert answers == greedy * 3
    for use, logits in zip(uses, expected, strict=True):
        assert np.array_equal(model.session(adapter=use).prefill(ids), logits)
    assert not np.array_equal(expected[0], expected[1])
    assert not np.array_equal(expected[1], expected[2])


def test_output_that_changes_with_cache_hits(archives: Archives) -> None:
    """tests/runtime/contexts/test_prefix_cache.py has prompts that share beginnings of all lengths."""
    model = load(archives("hearthside", weights="int4", context=256))
    cache = PrefixCache(1 << 20)
    for last in (5, 6, 5):
        ids = [*range(4, 60), last]
        session, fresh = model.session(), model.session()
        found = cache.fill(session, ids)
        assert np.array_equal(session.prefill(ids[found:]), fresh.prefill(ids))
        cache.keep(session)
    assert cache.stats.hits == 2


def test_a_saved_session_that_another_model_goes_on_with(
    archives: Archives, tmp_path: Path
) -> None:
    """tests/runtime/contexts/test_saved.py has 200 damaged files besides."""
    one, other = (load(archives("hearthside", weights=name)) for name in ("int4", "int8"))
    session = one.session()
    session.prefill([5, 6, 7])
    save_context(tmp_path / "talk.ctx", session)
    with pytest.raises(ArchiveError, match="saved with the archive") as found:
        load_context(tmp_path / "talk.ctx", other)
    assert found.value.code == "context.archive"


def test_a_restored_context_that_does_nothing_or_poisons_the_process(
    archives: Archives, tmp_path: Path
) -> None:
    """tests/runtime/contexts/test_saved.py cuts texts at 200 places."""
    model, path = load(archives("hearthside", weights="int4")), tmp_path / "talk.ctx"
    session = model.session()
    session.prefill(list(range(4, 60)))
    save_context(path, session)
    expected, damaged = session.decode(5), bytearray(path.read_bytes())
    restored = load_context(path, model).session(model)
    assert restored.tokens == tuple(range(4, 60))
    assert np.array_equal(restored.decode(5), expected)
    assert not np.array_equal(model.session().decode(5), expected)
    damaged[-1] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(ArchiveError) as found:
        load_context(path, model)
    assert found.value.code == "context.damaged"
    assert np.array_equal(restored.decode(6), session.decode(6))


def test_a_frequency_penalty_that_is_a_repetition_penalty() -> None:
    """It subtracts, for each time that a token was there, and looks at the answer alone (docs/sampling.md)."""
    logits = np.array([3.0, 2.4, 1.4, -9.0], np.float32)
    chooser = Chooser(Sampling(0.0, frequency_penalty=0.5), [0, 0, 0, 0])
    assert [chooser.choose(logits).token for _ in range(7)] == [0, 0, 1, 0, 1, 0, 1]


def test_the_beginning_forgotten_in_silence_at_a_full_context(archives: Archives) -> None:
    """A context slides only where that was asked for (tests/runtime/generation/test_sliding.py)."""
    model = load(archives("hearthside", weights="int4", context=64))
    stopped = model.generate([5, 6, 7], ignore_eos=True)
    list(stopped)
    assert (stopped.finish_reason, len(stopped.tokens)) == ("length", 62)
    with pytest.raises(InputError) as found:
        list(model.generate([5, 6, 7], ignore_eos=True, full=Full.ERROR))
    assert found.value.code == "input.context_full"
    slid = model.generate([5, 6, 7], ignore_eos=True, full=Full.SLIDE, max_tokens=100)
    list(slid)
    assert len(slid.tokens) == 100
