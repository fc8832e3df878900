"""Tokenizer, chat template and generation defaults: as found, or absent with a note."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hearth.compiler.frontend.assets import (
    NO_TOKENIZER,
    ONLY_SENTENCEPIECE,
    Assets,
    read_assets,
)
from hearth.schemas.errors import CheckpointError

TOKENIZER = {"version": "1.0", "model": {"type": "BPE", "vocab": {"a": 0, "b": 9}, "merges": []}}


def _read(directory: Path, config: dict[str, Any] | None = None, **files: Any) -> Assets:
    for name, content in files.items():
        path = directory / name.replace("__", ".")
        text = content if isinstance(content, str) else json.dumps(content)
        path.write_text(text, encoding="utf-8")
    return read_assets(directory, config or {}, vocab=10)


def test_nothing_at_all(tmp_path: Path) -> None:
    assert _read(tmp_path) == Assets(None, None, None, None, notes=(NO_TOKENIZER,))


def test_files_are_kept_byte_for_byte(tmp_path: Path) -> None:
    text = json.dumps(TOKENIZER, indent=3) + "\n"
    assets = _read(
        tmp_path,
        tokenizer__json=text,
        generation_config__json={"top_k": 3},
        tokenizer_config__json={},
    )
    assert assets.tokenizer_json == text.encode()
    assert assets.generation_config == b'{"top_k": 3}'
    assert assets.tokenizer_config == b"{}"
    assert assets.notes == ()


def test_sentencepiece_alone_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.model").write_bytes(b"\n")
    assets = _read(tmp_path)
    assert assets.notes == (ONLY_SENTENCEPIECE,)
    assert "save_pretrained" in ONLY_SENTENCEPIECE


@pytest.mark.parametrize(
    ("settings", "file", "expected"),
    [
        ({}, None, None),
        ({"chat_template": "A"}, None, "A"),
        ({"chat_template": "A"}, "{{ 'é' }}\n", "{{ 'é' }}\n"),
        (
            {
                "chat_template": [
                    {"name": "tool_use", "template": "T"},
                    {"name": "default", "template": "D"},
                ]
            },
            None,
            "D",
        ),
        ({"chat_template": None}, None, None),
    ],
)
def test_chat_template(
    settings: dict[str, Any], file: str | None, expected: str | None, tmp_path: Path
) -> None:
    if file is not None:
        (tmp_path / "chat_template.jinja").write_text(file, encoding="utf-8")
    assert _read(tmp_path, tokenizer_config__json=settings).chat_template == expected


@pytest.mark.parametrize(
    ("files", "code", "named"),
    [
        ({"tokenizer__json": "{"}, "checkpoint.json_invalid", "tokenizer.json"),
        ({"tokenizer__json": {"model": None}}, "checkpoint.tokenizer_invalid", "tokenizer.json"),
        ({"tokenizer_config__json": "nil"}, "checkpoint.json_invalid", "tokenizer_config.json"),
        ({"generation_config__json": []}, "checkpoint.json_invalid", "generation_config.json"),
        ({"tokenizer_config__json": {"chat_template": 3}}, "checkpoint.chat_template", "int"),
        (
            {"tokenizer_config__json": {"chat_template": [{"name": "rag", "template": "x"}]}},
            "checkpoint.chat_template",
            "rag",
        ),
    ],
)
def test_refused(files: dict[str, Any], code: str, named: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError) as caught:
        _read(tmp_path, **files)
    assert caught.value.code == code
    assert named in str(caught.value)


def test_a_template_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "chat_template.jinja").write_bytes(b"\xff\xfe")
    with pytest.raises(CheckpointError, match="UTF-8"):
        _read(tmp_path)


@pytest.mark.parametrize(
    ("generation", "config", "bos", "eos"),
    [
        ({}, {}, None, ()),
        ({}, {"bos_token_id": 1, "eos_token_id": 2}, 1, (2,)),
        (
            {"bos_token_id": 3, "eos_token_id": [4, 5]},
            {"bos_token_id": 1, "eos_token_id": 2},
            3,
            (4, 5),
        ),
        ({"eos_token_id": None}, {"eos_token_id": [2, 7, 2]}, None, (2, 7)),
        ({"bos_token_id": 0}, {}, 0, ()),
    ],
)
def test_ids(
    generation: dict[str, Any],
    config: dict[str, Any],
    bos: int | None,
    eos: tuple[int, ...],
    tmp_path: Path,
) -> None:
    assets = _read(tmp_path, config, generation_config__json=generation, tokenizer__json=TOKENIZER)
    assert (assets.bos_id, assets.eos_ids, assets.notes) == (bos, eos, ())


def test_impossible_ids_are_noted_and_ignored(tmp_path: Path) -> None:
    config = {"bos_token_id": -1, "eos_token_id": [2, 10]}
    assets = _read(tmp_path, config, tokenizer__json=TOKENIZER)
    assert (assets.bos_id, assets.eos_ids) == (None, (2,))
    assert [note.split(" is ")[0] for note in assets.notes] == [
        "bos_token_id -1",
        "eos_token_id 10",
    ]


@pytest.mark.parametrize(
    "change",
    [
        {"added_tokens": [{"id": 10, "content": "<pad>"}]},
        {"model": {"type": "BPE", "vocab": {"a": 10}}},
        {"model": {"type": "Unigram", "vocab": [["a", 0.0]] * 11}},
    ],
)
def test_a_tokenizer_larger_than_the_model_is_noted(change: dict[str, Any], tmp_path: Path) -> None:
    assets = _read(tmp_path, tokenizer__json={**TOKENIZER, **change})
    assert assets.notes == ("tokenizer.json has ids up to 10, the model only 10 rows",)
