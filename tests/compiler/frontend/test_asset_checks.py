"""What the runtime could not read is refused when it is compiled, with the file's name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hearth.compiler.frontend.asset_checks import check_assets
from hearth.compiler.frontend.assets import read_assets
from hearth.schemas.errors import CheckpointError

WORDS = {"type": "WordLevel", "vocab": {"<unk>": 0, "a": 1}, "unk_token": "<unk>"}
GOOD = {
    "tokenizer.json": {"version": "1.0", "added_tokens": [], "model": WORDS},
    "tokenizer_config.json": {"chat_template": "{{ messages[0]['content'] }}"},
    "generation_config.json": {"do_sample": True, "temperature": 0.7, "eos_token_id": [2]},
}


def check(directory: Path, **changes: Any) -> None:
    for name, content in {**GOOD, **changes}.items():
        text = content if isinstance(content, str) else json.dumps(content)
        (directory / name).write_text(text)
    check_assets(read_assets(directory, {}, vocab=10), directory)


def test_what_the_runtime_reads_passes(tmp_path: Path) -> None:
    check(tmp_path)


def test_nothing_to_read_passes(tmp_path: Path) -> None:
    check_assets(read_assets(tmp_path, {}, vocab=10), tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "code", "said"),
    [
        ("tokenizer.json", {"model": {}}, "tokenizer_invalid", "tokenizer.json"),
        (
            "tokenizer.json",
            {"version": "1.0", "model": {"type": "BPE", "vocab": "x"}},
            "tokenizer_invalid",
            "tokenizer.json",
        ),
        (
            "tokenizer.json",
            {**GOOD["tokenizer.json"], "added_tokens": 3},
            "tokenizer_invalid",
            "tokenizer.json",
        ),
        (
            "tokenizer_config.json",
            {"added_tokens_decoder": {"1": {"content": 5}}},
            "tokenizer_invalid",
            "tokenizer_config.json describes a token as {'content': 5}",
        ),
        (
            "tokenizer_config.json",
            {"added_tokens_decoder": {"1": {"content": "a", "special": "yes"}}},
            "tokenizer_invalid",
            "'special': 'yes'",
        ),
        ("tokenizer_config.json", {"eos_token": "\ud800"}, "tokenizer_invalid", "\\ud800"),
        ("tokenizer_config.json", {"chat_template": "\ud800"}, "chat_template", "Unicode"),
        ("chat_template.jinja", "{% if %}", "chat_template", "remove chat_template.jinja"),
        ("generation_config.json", {"temperature": "hot"}, "generation_config", "temperature"),
        ("generation_config.json", {"eos_token_id": "x"}, "generation_config", "eos_token_id"),
        (
            "generation_config.json",
            {"do_sample": True, "temperature": -1.0},
            "generation_config",
            "temperature is -1",
        ),
        ("generation_config.json", {"max_new_tokens": 0}, "generation_config", "max_tokens is 0"),
    ],
)
def test_what_it_cannot_read_is_refused(
    name: str, content: object, code: str, said: str, tmp_path: Path
) -> None:
    with pytest.raises(CheckpointError) as caught:
        check(tmp_path, **{name: content})
    assert caught.value.code == f"checkpoint.{code}"
    assert said in str(caught.value)
