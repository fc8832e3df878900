"""Prompts of Ollama's endpoints: by template, raw, after the ids of an answer, cut to what fits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.serve import chat_checkpoint

from hearth.runtime import load
from hearth.runtime.model import Model
from hearth.runtime.serving.ollama.prompts import chat_ids, generate_ids
from hearth.runtime.serving.ollama.requests import read_chat, read_generate
from hearth.schemas.errors import InputError


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """The demo's model with a template that knows tools, and a context of 64."""
    from hearth.compiler.job import options
    from hearth.compiler.pipeline import compile_model
    from hearth.schemas.recipe import make_recipe

    folder = tmp_path_factory.mktemp("prompts")
    recipe = make_recipe({"source": "-", "output": "-", "target": "x86-64-v3", "context": 64})
    source = chat_checkpoint(folder / "checkpoint")
    compile_model(source, folder / "m.har", options(recipe, frozenset()))
    return load(folder / "m.har", threads=1)


def generated(model: Model, **body: Any) -> str:
    ids = generate_ids(model, read_generate({"model": "m", **body}))
    return model.tokenizer.decode(ids, skip_special_tokens=False)


def chatted(model: Model, *messages: tuple[str, str], **body: Any) -> str:
    said = [{"role": role, "content": content} for role, content in messages]
    ids = chat_ids(model, read_chat({"model": "m", "messages": said, **body}))
    return model.tokenizer.decode(ids, skip_special_tokens=False)


def test_a_prompt_is_a_users_message(model: Model) -> None:
    alone, told = generated(model, prompt="fire"), generated(model, prompt="fire", system="wood")
    assert alone == chatted(model, ("user", "fire"))
    assert told == chatted(model, ("system", "wood"), ("user", "fire"))


def test_a_raw_prompt_is_read_as_it_is(model: Model) -> None:
    ids = generate_ids(model, read_generate({"model": "m", "prompt": "fire", "raw": True}))
    assert ids == model.tokenizer.encode("fire")


def test_the_ids_of_an_answer_come_first(model: Model) -> None:
    before = generate_ids(model, read_generate({"model": "m", "prompt": "fire"}))
    plain = generate_ids(model, read_generate({"model": "m", "prompt": "more"}))
    found = generate_ids(model, read_generate({"model": "m", "prompt": "more", "context": before}))
    assert found[: len(before)] == before
    assert found[len(before) :] in (plain, plain[1:])  # without a second token of the beginning


def test_ids_that_are_none_of_the_models_are_refused(model: Model) -> None:
    with pytest.raises(InputError, match="token id 99999"):
        generate_ids(model, read_generate({"model": "m", "prompt": "a", "context": [99999]}))


def test_a_long_prompt_keeps_its_end(model: Model) -> None:
    words = " ".join(["fire"] * 200) + " wood"
    assert generated(model, prompt=words).endswith(generated(model, prompt="wood")[-10:])
    ids = generate_ids(model, read_generate({"model": "m", "prompt": words}))
    assert len(ids) == 48  # a quarter is left for the answer
    whole = generate_ids(model, read_generate({"model": "m", "prompt": words, "truncate": False}))
    assert len(whole) > 200


def test_a_long_chat_loses_its_oldest_turns_and_no_system_message(model: Model) -> None:
    turns = [("user", f"fire {n}") if n % 2 == 0 else ("assistant", "warm") for n in range(41)]
    found = chatted(model, ("system", "wood"), *turns)
    assert "wood" in found and "fire 40" in found and "fire 0" not in found
    assert "wood</s><|user|>" in found  # templates want a user's message first


def test_a_chat_whose_last_turn_does_not_fit_stays_as_it_is(model: Model) -> None:
    assert len(chatted(model, ("user", "fire " * 300))) > 1000


def test_tools_and_thinking_reach_the_template(model: Model) -> None:
    tools = [{"type": "function", "function": {"name": "add", "parameters": {}}}]
    found = chatted(model, ("user", "fire"), tools=tools, think=False)
    assert "<tools>add;</tools>" in found


def test_an_archive_without_a_template_reads_the_prompt_alone(
    tmp_path: Path, archives: Any
) -> None:
    model = load(archives("stories3M", weights="int8"), threads=1)
    assert generated(model, prompt="Once").endswith("Once")
    for wrong in ({"prompt": "Once", "system": "s"},):
        with pytest.raises(InputError, match="chat template"):
            generated(model, **wrong)
    with pytest.raises(InputError, match="chat template"):
        chatted(model, ("user", "Once"))
