"""Gemma archives in use: turns by its template, answers that fit a pattern, sessions that run together, `verify`."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.checkpoints import GEMMA, GEMMA2, GEMMA3, write_checkpoint
from support.command_line import hearth
from support.compiling import wanted

from hearth.compiler.pipeline import compile_model
from hearth.runtime import Model, load
from hearth.runtime.archive import open_archive
from hearth.runtime.batch import Turn, step
from hearth.runtime.grammar import Regex
from hearth.schemas.errors import InputError
from hearth.schemas.sections import FEATURES

FAMILIES: Mapping[str, Mapping[str, Any]] = {"gemma": GEMMA, "gemma2": GEMMA2, "gemma3": GEMMA3}
NEEDS = {
    "gemma": {"geglu", "scale"},
    "gemma2": {"geglu", "scale", "soft_cap"},
    "gemma3": {"geglu", "scale"},
}
SPECIAL = ("<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>")
LETTERS = "\u2581abcdefghijklmnopqrstuvwxyz.,!?\n"
WORDS = [*SPECIAL, *(f"<0x{byte:02X}>" for byte in range(256)), *LETTERS]
TOKENIZER = {  # of Gemma's kind: BPE over characters, spaces as a mark, bytes for what is not there
    "version": "1.0",
    "added_tokens": [
        {"id": id, "content": text, "special": True, "single_word": False, "lstrip": False,
         "rstrip": False, "normalized": False}
        for id, text in enumerate(SPECIAL)
    ],
    "normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"},
    "decoder": {
        "type": "Sequence",
        "decoders": [
            {"type": "Replace", "pattern": {"String": "\u2581"}, "content": " "},
            {"type": "ByteFallback"},
            {"type": "Fuse"},
        ],
    },
    "model": {
        "type": "BPE", "vocab": {text: id for id, text in enumerate(WORDS)}, "merges": [],
        "unk_token": "<unk>", "byte_fallback": True, "fuse_unk": True,
    },
}  # fmt: skip
TEMPLATE = (
    "{{ bos_token }}"
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for message in messages %}"
    "{% set role = 'model' if message['role'] == 'assistant' else message['role'] %}"
    "{{ '<start_of_turn>' + role + '\n' + message['content'] | trim + '<end_of_turn>\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)


@pytest.fixture(scope="module", params=FAMILIES)
def path(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp(request.param)
    config = {**FAMILIES[request.param], "vocab_size": len(WORDS), "max_position_embeddings": 256}
    source = write_checkpoint(folder / "src", {**config, "bos_token_id": 2, "eos_token_id": [1, 5]})
    (source / "tokenizer.json").write_text(json.dumps(TOKENIZER))
    settings = {"bos_token": "<bos>", "eos_token": "<eos>", "chat_template": TEMPLATE}
    (source / "tokenizer_config.json").write_text(json.dumps(settings))
    compile_model(source, folder / f"{request.param}.har", wanted(weights="int4", context=200))
    return folder / f"{request.param}.har"


@pytest.fixture
def model(path: Path) -> Model:
    return load(path, threads=2)


def test_an_older_runtime_is_told_what_it_lacks(path: Path) -> None:
    """Its features by name: the bits that a runtime without them refuses."""
    features = open_archive(path).directory.features
    assert features == {name: FEATURES[name] for name in NEEDS[path.stem]}


def test_a_conversation_by_its_template_without_a_system_message(model: Model) -> None:
    talk = model.conversation("one")
    first = "".join(talk.send("hi there", max_tokens=6, temperature=1.0, seed=1))
    second = "".join(talk.send("and you?", max_tokens=6, temperature=1.0, seed=2))
    messages = [
        {"role": "user", "content": "hi there"}, {"role": "assistant", "content": first},
        {"role": "user", "content": "and you?"},
    ]  # fmt: skip
    again = "".join(model.generate(messages, max_tokens=6, temperature=1.0, seed=2))
    assert again == second
    with pytest.raises(InputError, match="System role not supported") as caught:
        "".join(model.conversation("two", system="Be brief.").send("hi", max_tokens=2))
    assert caught.value.code == "input.chat_refused"


def test_an_answer_fits_a_pattern(model: Model) -> None:
    pattern = r"(yes|no), [a-z]{3,5}\."
    asked = {"max_tokens": 30, "temperature": 1.0}
    for seed in range(4):
        answer = "".join(model.generate("is it?", format=Regex(pattern), seed=seed, **asked))
        assert re.fullmatch(pattern, answer)


def test_sessions_that_run_together_get_the_bits_they_get_alone(model: Model) -> None:
    """Across windows and blocks of positions: prompts, single tokens and rewinds at random."""
    rng = random.Random(1)
    pairs = [(model.session(), model.session()) for _ in range(4)]
    for _ in range(8):
        turns, due = [], []
        for session, other in rng.sample(pairs, rng.randint(1, 4)):
            if model.context - session.position < 50:
                session.rewind(9)
                other.rewind(9)
            ids = rng.choices(range(model.vocab), k=rng.choice((1, 1, 7, 16, 45)))
            turns.append(Turn(session, ids, 1))
            due.append([other.decode(token) for token in ids][-1:])
        for found, expected in zip(step(turns), due, strict=True):
            np.testing.assert_array_equal(found, expected)


def test_it_is_verified(path: Path) -> None:
    assert hearth("verify", path) == 0
