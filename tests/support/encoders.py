"""A tiny BERT-like checkpoint with a tokenizer of its own, compiled."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from hearth.compiler.job import options
from hearth.compiler.pipeline import compile_model
from hearth.schemas.recipe import make_recipe
from support.bert import BERT, random_tensors
from support.checkpoints import write_checkpoint

WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", *(f"{a}{b}" for a in "abcdefg" for b in "vwxyz"))
CLS, SEP = WORDS.index("[CLS]"), WORDS.index("[SEP]")


def write_tokenizer(directory: Path, **config: Any) -> None:
    """Words of two letters; [CLS] and [SEP] as BERT puts them, types 0 and 1."""
    vocab = {word: place for place, word in enumerate(WORDS)}
    made = Tokenizer(models.WordLevel(vocab, unk_token="[UNK]"))
    made.normalizer = normalizers.Lowercase()
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", CLS), ("[SEP]", SEP)],
    )
    made.save(str(directory / "tokenizer.json"))
    (directory / "tokenizer_config.json").write_text(json.dumps(config))


def write_encoder(
    directory: Path, *, tokenizer: bool = True, side: str = "right", **changes: Any
) -> Path:
    """The checkpoint; `changes` are of its config."""
    config = {**BERT, **changes}
    write_checkpoint(directory, config, random_tensors(config))
    if tokenizer:
        write_tokenizer(directory, truncation_side=side)
    return directory


def compile_encoder(source: Path, output: Path, **recipe: Any) -> Path:
    """The archive of a checkpoint."""
    values = {"source": "s", "output": "o", "target": "x86-64-v3", **recipe}
    compile_model(source, output, options(make_recipe(values), frozenset()))
    return output
