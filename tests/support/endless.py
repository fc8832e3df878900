"""A model that never ends a text by itself, and takes a while: for answers that are stopped, left or cut off."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from hearth.compiler.job import options
from hearth.compiler.pipeline import compile_model
from hearth.schemas.recipe import make_recipe
from support.checkpoint import Shape, write_checkpoint

SHAPE = Shape(
    hidden=512, layers=8, heads=8, kv_heads=2, ffn=2048, vocab=1536, context=4096, tied=False
)  # the demo's vocabulary: some 500 tokens/s of one core
TOKENIZER = Path(__file__).parents[2] / "models/hearthside"


def endless_archive(folder: Path) -> Path:
    """Random weights with the demo's tokenizer and chat template; no token ends a text, and each is drawn."""
    source = write_checkpoint(folder / "endless", SHAPE)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(TOKENIZER / name, source / name)
    (source / "generation_config.json").write_text(
        json.dumps({"eos_token_id": [], "do_sample": True})
    )
    recipe = {
        "source": "-",
        "output": "-",
        "target": "x86-64-v3",
        "weights": "int8",
        "context": 4096,
    }
    compile_model(source, folder / "endless.har", options(make_recipe(recipe), frozenset()))
    return folder / "endless.har"
