"""Ids and special tokens are those of transformers for the same files."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from support.data import real

from hearth.runtime.text.tokenizer import parse_tokenizer

transformers = pytest.importorskip("transformers", reason="needs the parity extra")

TEXTS = (
    "", " ", "Hello, world!", " two  spaces ", "a\nb\n\n", "naïve 日本語 😀", "<s>", "a </s> b",
    "x<|endoftext|> y", "<|im_start|>user\nhi<|im_end|>", "1234567", "don't",
)  # fmt: skip
CONFIGS: tuple[dict[str, object], ...] = (
    {}, {"add_bos_token": True, "add_eos_token": True}, {"add_bos_token": False}
)  # fmt: skip


@pytest.mark.parametrize("config", CONFIGS, ids=str)
@pytest.mark.parametrize(
    "name", ["tokenizers/phi-3", "tokenizers/Qwen2", "tokenizers/gpt2", "checkpoints/stories3M"]
)
def test_ids_equal_those_of_transformers(
    name: str, config: dict[str, object], tmp_path: Path
) -> None:
    source = real(name)
    shutil.copy(source / "tokenizer.json", tmp_path)
    given = json.loads((source / "tokenizer_config.json").read_text())
    # One class for all: the others rebuild parts of tokenizer.json from their own code.
    text = json.dumps(given | config | {"tokenizer_class": "PreTrainedTokenizerFast"})
    (tmp_path / "tokenizer_config.json").write_text(text)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    ours = parse_tokenizer((tmp_path / "tokenizer.json").read_bytes(), text.encode())
    assert (ours.bos_id, ours.eos_id) == (theirs.bos_token_id, theirs.eos_token_id)
    for sample in TEXTS:
        ids = theirs(sample)["input_ids"]
        assert ours.encode(sample) == ids, sample
        plain = theirs.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        assert ours.decode(ids) == plain
