"""Loading and the Python surface on real archives: what is checked, what is lazy, what text comes out."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from support.command_line import hearth
from support.data import checkpoint

from hearth.runtime import load, native
from hearth.runtime.archive import ArchiveWriter, open_archive
from hearth.runtime.binding import MAX_THREADS
from hearth.runtime.model import Model
from hearth.schemas.codec import dumps
from hearth.schemas.errors import ArchiveError, HearthError, InputError, UsageError
from hearth.schemas.program import Command

if TYPE_CHECKING:
    from conftest import Archives


@pytest.fixture(scope="module")
def model(archives: Archives) -> Model:
    return load(archives("hearthside", weights="int4"), threads=2)


def refused(error: type[HearthError], code: str, *arguments: object, **named: object) -> str:
    with pytest.raises(error) as found:
        load(*arguments, **named)  # type: ignore[arg-type]
    assert found.value.code == code
    return str(found.value)


def test_the_facts_of_a_model(model: Model) -> None:
    tokens = model.tokenizer.backend.get_vocab_size()
    assert (model.vocab, model.context, model.threads) == (tokens, 512, 2)
    assert model.isa == native.isas()[-1]
    assert model.manifest.family == "llama"


@pytest.mark.parametrize("isa", native.isas())
def test_every_isa_of_this_cpu_can_be_chosen(archives: Archives, isa: str) -> None:
    assert load(archives("hearthside", weights="int4"), isa=isa).isa == isa


def test_bad_arguments_are_refused(archives: Archives) -> None:
    path = archives("hearthside", weights="int4")
    for threads in (0, -1, MAX_THREADS + 1):
        refused(UsageError, "arguments.threads", path, threads=threads)
    message = refused(UsageError, "arguments.isa", path, isa="avx1024")
    assert "portable" in message
    refused(ArchiveError, "archive.not_found", path.with_name("no.har"))


def test_loading_parses_no_tokenizer_and_copies_no_weights(archives: Archives) -> None:
    code = (
        "import sys; from hearth.runtime import load\n"
        f"model = load({str(archives('hearthside', weights='int4'))!r}, threads=1)\n"
        "model.session().prefill([1, 2, 3])\n"
        "heavy = {'tokenizers', 'jinja2', 'typer', 'rich', 'onnx'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.mark.parametrize("name", ["stories260K", "stories3M"])
def test_text_equals_the_reference(archives: Archives, name: str) -> None:
    """Tokenizer, generation and detokeniser together: the reference's text, piece by piece."""
    model = load(archives(name, weights="f32", kv="f32"))
    for case in json.loads((checkpoint(name) / "reference_greedy.json").read_text())["cases"][1:3]:
        count = len(case["greedy_ids"]) - len(case["prompt_ids"])
        generation = model.generate(case["prompt"], max_tokens=count, ignore_eos=True)
        assert case["prompt"] + "".join(generation) == case["text"]
        assert case["prompt_ids"] + generation.tokens == case["greedy_ids"]


def test_generate_takes_text_or_ids(model: Model) -> None:
    text = model.generate("Once upon a time", max_tokens=10)
    list(text)
    ids = model.generate(model.encode("Once upon a time"), max_tokens=10)
    assert "".join(ids) == text.text
    assert ids.tokens == text.tokens
    assert text.stats.prompt_tokens == len(model.encode("Once upon a time"))


def test_generate_goes_on_in_a_session(model: Model) -> None:
    whole = model.generate("Once upon a time", max_tokens=20, ignore_eos=True)
    list(whole)
    session = model.session()
    first = model.generate("Once upon a time", max_tokens=10, ignore_eos=True, session=session)
    list(first)
    second = model.generate(first.tokens[-1:], max_tokens=10, ignore_eos=True, session=session)
    assert first.text + "".join(second) == whole.text


def test_bad_prompts_are_refused_when_asked_for(model: Model) -> None:
    for prompt, code in [
        ([], "input.empty"),
        ([model.vocab], "input.token_range"),
        ([1] * 513, "input.context_full"),
        ([{"content": "hi"}], "input.messages"),
        ("\ud800", "input.text"),
    ]:
        with pytest.raises(InputError) as found:
            model.generate(prompt)  # type: ignore[arg-type]
        assert found.value.code == code


def test_messages_go_through_the_chat_template(model: Model, archives: Archives) -> None:
    """The template writes the special tokens itself; nothing is added to them."""
    messages = [{"role": "user", "content": "Once"}]
    ids = model.encode(messages)
    shown = model.tokenizer.decode(ids, skip_special_tokens=False)
    assert shown == model.chat_template.render(messages) == "<s><|user|>Once<|assistant|>"
    answer = model.generate(messages, max_tokens=5)
    list(answer)
    assert answer.stats.prompt_tokens == len(ids)


def test_run_puts_messages_into_the_chat_template(
    model: Model, archives: Archives, capsys: pytest.CaptureFixture[str]
) -> None:
    path = archives("hearthside", weights="int4")
    user = {"role": "user", "content": "Tell me a story."}
    for options, messages in [
        (("--chat",), [user]),
        (("--system", "Be brief."), [{"role": "system", "content": "Be brief."}, user]),
    ]:
        assert hearth("run", path, "Tell me a story.", "--max-tokens", 12, *options) == 0
        expected = "".join(model.generate(messages, max_tokens=12))
        assert capsys.readouterr().out == expected + "\n"


def test_an_archive_without_a_tokenizer_takes_ids(archives: Archives) -> None:
    model = load(archives("tiny", weights="int4", context=64))
    for prompt in ("text", [1, 2], [{"role": "user", "content": "hi"}]):
        with pytest.raises(InputError) as found:
            model.generate(prompt)  # type: ignore[arg-type]
        assert found.value.code == "input.not_in_archive"
    generation = model.generate([1, 2], max_tokens=4, pieces="ids", ignore_eos=True)
    assert "".join(generation).split() == [str(token) for token in generation.tokens]


def test_a_full_context_ends_a_generation(archives: Archives) -> None:
    model = load(archives("tiny", weights="int4", context=64))
    session = model.session()
    generation = model.generate([1] * 60, pieces="ids", ignore_eos=True, session=session)
    list(generation)
    assert (len(generation.tokens), generation.finish_reason) == (5, "length")
    with pytest.raises(InputError) as found:
        session.decode(1)
    assert found.value.code == "input.context_full"
    session.rewind(10)
    assert session.decode(1).shape == (model.vocab,)


def test_sessions_in_threads_do_not_mix(model: Model) -> None:
    """The engine runs one call at a time; each session's cache is its own."""
    prompts = [np.random.default_rng(seed).integers(3, 500, 90).tolist() for seed in range(4)]
    expected = [model.session().prefill(ids) for ids in prompts]
    found: list[np.ndarray | None] = [None] * len(prompts)

    def work(place: int) -> None:
        session = model.session(chunk=5)
        for token in prompts[place][:45]:
            session.decode(token)
        found[place] = session.prefill(prompts[place][45:])

    threads = [threading.Thread(target=work, args=(place,)) for place in range(len(prompts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for one, other in zip(found, expected, strict=True):
        assert one is not None
        assert np.array_equal(one, other)


def test_a_program_that_allows_less_than_its_manifest_is_an_archive_error(
    archives: Archives, tmp_path: Path
) -> None:
    """Well-formed, its hashes whole, its table five rows long: the run refuses the sixth id."""
    archive = open_archive(archives("tiny", weights="int8"))

    def shortened(command: Command) -> Command:
        return replace(command, ints=(5, *command.ints[1:])) if command.op == "embed" else command

    entries = {
        name: replace(entry, commands=tuple(map(shortened, entry.commands)))
        for name, entry in archive.program.entries.items()
    }
    with ArchiveWriter(tmp_path / "a.har") as writer:
        for section in archive.directory.sections:
            data = archive.section(section.name)
            is_program = section.name == "program"
            changed = dumps(replace(archive.program, entries=entries)) if is_program else data
            writer.add(section.name, section.kind, changed)
    session = load(tmp_path / "a.har").session()
    session.prefill([4])
    with pytest.raises(ArchiveError, match=r"token id 5 is not in \[0, 5\)") as caught:
        session.decode(5)
    assert caught.value.code == "archive.program"
    assert session.tokens == (4,)
