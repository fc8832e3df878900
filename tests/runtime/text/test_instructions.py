"""Instructions before texts that become vectors: from the file of sentence-transformers into archives and requests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.checkpoints import QWEN3, write_checkpoint
from support.encoders import compile_encoder, write_encoder, write_tokenizer

from hearth.runtime import load, load_encoder
from hearth.runtime.archive import open_archive
from hearth.runtime.text.instructions import Instructions, parse_instructions
from hearth.schemas import sections
from hearth.schemas.errors import CheckpointError, UsageError

PROMPTS = {"query": "av bw ", "document": ""}


def instruct(folder: Path, default: str | None = None, **pooling: Any) -> Path:
    """The files that sentence-transformers writes."""
    values = {"prompts": PROMPTS, "default_prompt_name": default, "similarity_fn_name": "cosine"}
    (folder / "config_sentence_transformers.json").write_text(json.dumps(values))
    steps = [("Transformer", ""), ("Pooling", "1_Pooling")]
    modules = [{"path": path, "type": f"x.{kind}"} for kind, path in steps]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling").mkdir()
    modes = {"pooling_mode_mean_tokens": True, **pooling}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(modes))
    return folder


def decoder(folder: Path, default: str | None = None, **pooling: Any) -> Path:
    write_checkpoint(folder, QWEN3)
    write_tokenizer(folder)
    return instruct(folder, default, **pooling)


def test_a_name_puts_its_instruction_before_each_text(tmp_path: Path) -> None:
    model = load(compile_encoder(decoder(tmp_path / "m"), tmp_path / "m.har", weights="int8"))
    texts = ["cx", "dy ez"]
    wanted = model.embed(["av bw cx", "av bw dy ez"])
    np.testing.assert_array_equal(model.embed(texts, "query"), wanted)
    np.testing.assert_array_equal(model.embed(texts, "document"), model.embed(texts))
    assert not np.array_equal(model.embed(texts), wanted)
    with pytest.raises(UsageError, match="query, document") as caught:
        model.embed(texts, "passage")
    assert caught.value.code == "arguments.prompt_name"


def test_an_encoder_s_default_stands_before_texts_and_nothing_else(tmp_path: Path) -> None:
    folder = instruct(write_encoder(tmp_path / "m"), "query")
    encoder = load_encoder(compile_encoder(folder, tmp_path / "m.har", weights="int8"))
    assert encoder.encode("cx") == encoder.encode("av bw cx", "document")
    ids = encoder.encode("cx", "document").ids
    assert encoder.encode(ids).ids == ids
    assert encoder.encode(("cx", "dy")).ids == encoder.encode(("cx", "dy"), "document").ids


def test_files_without_prompts_add_nothing(tmp_path: Path) -> None:
    folder = write_encoder(tmp_path / "m")
    plain = compile_encoder(folder, tmp_path / "plain.har").read_bytes()
    (folder / "config_sentence_transformers.json").write_text('{"prompts": {"query": ""}}')
    path = compile_encoder(folder, tmp_path / "m.har")
    assert path.read_bytes() == plain
    assert sections.INSTRUCTIONS not in open_archive(path).entries


@pytest.mark.parametrize(
    "content",
    [
        "[]",
        "{",
        '{"prompts": {"a": 1}}',
        '{"prompts": {"a": "b"}, "default_prompt_name": "c"}',
        '{"prompts": {"a": "b"}, "default_prompt_name": []}',
    ],
)
def test_a_file_that_makes_no_sense_is_refused(content: str, tmp_path: Path) -> None:
    folder = write_encoder(tmp_path / "m")
    (folder / "config_sentence_transformers.json").write_text(content)
    with pytest.raises(CheckpointError) as caught:
        compile_encoder(folder, tmp_path / "m.har")
    assert caught.value.code == "sentence.invalid"


def test_prompts_that_are_not_pooled_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="include_prompt") as caught:
        compile_encoder(decoder(tmp_path / "m", include_prompt=False), tmp_path / "m.har")
    assert caught.value.code == "sentence.pooling"


def test_nothing_stands_before_texts_where_nothing_is_said() -> None:
    assert Instructions().before(None) == ""
    assert parse_instructions(b'{"prompts": {"a": "b"}}').before("a") == "b"
