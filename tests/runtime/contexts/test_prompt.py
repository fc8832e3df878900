"""A prompt compiled into the archive: used by itself, the bits of reading it, and checked like everything else."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from support.command_line import hearth
from support.fake_executor import FakeExecutor

from hearth.runtime import Model, load
from hearth.runtime.archive import ArchiveWriter, open_archive
from hearth.runtime.contexts.prefix_cache import PrefixCache
from hearth.runtime.session import Session
from hearth.schemas import sections
from hearth.schemas.codec import dumps, loads
from hearth.schemas.errors import ArchiveError
from hearth.schemas.prompt import Prompt

if TYPE_CHECKING:
    from conftest import Archives

SYSTEM = "You tell long and winding stories about the hearth, and you are kind."
PLAIN = {"weights": "int4", "kv": "int8", "context": 256}


@pytest.fixture(scope="module")
def path(archives: Archives) -> Path:
    return archives("hearthside", **PLAIN, prompt_cache=SYSTEM)


@pytest.fixture(scope="module")
def plain(archives: Archives) -> Model:
    return load(archives("hearthside", **PLAIN))


@pytest.fixture(scope="module")
def model(path: Path) -> Model:
    return load(path)


def chat(text: str) -> list[dict[str, str]]:
    return [{"role": "system", "content": SYSTEM}, {"role": "user", "content": text}]


def test_it_holds_what_all_prompts_share_that_begin_so(model: Model) -> None:
    assert model.prompt is not None
    count = len(model.prompt.tokens)
    for text in ("Hello", "a", "1", "  what?", "The end"):
        assert tuple(model.encode(chat(text))[:count]) == model.prompt.tokens
    assert count >= len(model.tokenizer.encode(SYSTEM)) - 1


def test_sessions_do_not_read_it_and_give_the_same_bits(model: Model, plain: Model) -> None:
    assert model.fingerprint == plain.fingerprint
    for ids in (model.encode(chat("Hello")), list(model.prompt.tokens) if model.prompt else []):
        one, other = model.session(), plain.session()
        assert np.array_equal(one.prefill(ids), other.prefill(ids))
        assert np.array_equal(one.decode(5), other.decode(5))
        taken = [each.snapshot().pieces[0].packed for each in (one, other)]
        assert np.array_equal(*taken)


def test_only_an_empty_session_without_an_adapter_begins_with_it() -> None:
    model = FakeExecutor()
    session = Session(model)
    session.prefill([1, 2, 3, 4])
    model.prompt = session.snapshot()
    counts = []
    for ids in ([1, 2, 3, 4, 5], [1, 2, 9], [1, 2, 3, 4], [7]):
        model.calls.clear()
        fresh = Session(model)
        assert np.array_equal(fresh.prefill(ids), model.logits(np.array(ids)))
        assert fresh.tokens == tuple(ids)
        counts.append(sum(call[1] for call in model.calls))
    assert counts == [1, 1, 1, 1]
    session.rewind(2)
    model.calls.clear()
    session.prefill([1, 2, 3])
    assert sum(call[1] for call in model.calls) == 3


def test_conversations_and_prefix_caches_begin_with_it(model: Model, plain: Model) -> None:
    assert model.prompt is not None
    count = len(model.prompt.tokens)
    assert PrefixCache(0, model.pinned).best(model.encode(chat("Hello")), None) == count
    talk, other = (each.conversation("alice", system=SYSTEM) for each in (model, plain))
    replies = [each.send("Hello", max_tokens=20, ignore_eos=True) for each in (talk, other)]
    assert "".join(replies[0]) == "".join(replies[1])
    assert [each.cached_tokens for each in replies] == [count, 0]


def copied(path: Path, output: Path, **changes: bytes) -> Path:
    """The archive with other bytes in some sections, rightly hashed."""
    archive = open_archive(path)
    with ArchiveWriter(output) as writer:
        for section in archive.directory.sections:
            key = section.name.replace(".", "_")
            writer.add(section.name, section.kind, changes.get(key, archive.section(section.name)))
    return output


def told(capsys: pytest.CaptureFixture[str], *command: str) -> tuple[int, str]:
    """The exit code of a command, and what it printed."""
    capsys.readouterr()
    code = hearth(*command)
    return code, capsys.readouterr().out


def test_verify_computes_it_again(
    path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, text = told(capsys, "verify", str(path), "--json")
    assert code == 0
    steps = {each["name"]: each for each in json.loads(text)["steps"]}
    assert steps["prompt"]["outcome"] == "passed"
    packed = bytearray(open_archive(path).section(sections.PROMPT_KV))
    packed[0] ^= 1
    broken = copied(path, tmp_path / "broken.har", prompt_kv=bytes(packed))
    code, text = told(capsys, "verify", str(broken), "--json")
    assert code == 4
    assert "verify.prompt" in text


def test_parts_that_do_not_fit_are_refused(path: Path, tmp_path: Path) -> None:
    archive = open_archive(path)
    prompt = loads(Prompt, archive.section(sections.PROMPT), "prompt")
    for number, changed in enumerate(
        (replace(prompt, tokens=prompt.tokens[:-17]), replace(prompt, tokens=(10**6,) * 9))
    ):
        bad = load(copied(path, tmp_path / f"{number}.har", prompt=dumps(changed)))
        with pytest.raises(ArchiveError) as found:
            bad.session().prefill([1, 2])
        assert found.value.code == "archive.prompt"
    other = replace(prompt, layout="of another version")
    assert load(copied(path, tmp_path / "other.har", prompt=dumps(other))).prompt is None


def test_bits_of_another_instruction_set_are_not_used(path: Path, tmp_path: Path) -> None:
    prompt = loads(Prompt, open_archive(path).section(sections.PROMPT), "prompt")
    made = copied(path, tmp_path / "avx.har", prompt=dumps(replace(prompt, isa="portable")))
    assert load(made, isa="portable").prompt is not None
    assert load(made).prompt is None or load(made).isa == "portable"


def test_inspect_and_diff_know_it(
    path: Path, plain: Model, capsys: pytest.CaptureFixture[str]
) -> None:
    assert json.loads(told(capsys, "inspect", str(path), "--json")[1])["prompt"]["text"] == SYSTEM
    assert SYSTEM[:40] in told(capsys, "inspect", str(path))[1]
    assert "prompt.kv" in told(capsys, "diff", str(plain.archive.path), str(path))[1]


def test_a_float_archive_names_its_instruction_set(archives: Archives) -> None:
    path = archives("hearthside", weights="f32", kv="f32", context=64, prompt_cache="Be brief.")
    model = load(path)
    prompt = loads(Prompt, model.archive.section(sections.PROMPT), "prompt")
    assert prompt.isa == model.isa
    assert model.prompt is not None
