"""The text part of Gemma 3 with a vision tower, as transformers saves the whole model: the same logits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support.torch_weights import randomise

from hearth import runtime
from hearth.compiler.job import options
from hearth.compiler.pipeline import compile_model
from hearth.schemas.recipe import make_recipe

torch = pytest.importorskip("torch", reason="needs the parity extra")
transformers = pytest.importorskip("transformers", minversion="5", reason="needs the parity extra")

TEXT = {
    "vocab_size": 97,
    "hidden_size": 48,
    "intermediate_size": 61,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 1,
    "head_dim": 16,
    "sliding_window": 9,
    "sliding_window_pattern": 3,
    "max_position_embeddings": 128,
}
VISION = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 28,
    "patch_size": 14,
}


def test_text_alone(tmp_path: Path) -> None:
    config = transformers.Gemma3Config(
        text_config=TEXT, vision_config=VISION, mm_tokens_per_image=4, image_token_index=96
    )
    model = transformers.Gemma3ForConditionalGeneration(config)
    randomise(model, np.random.default_rng(1))
    model.save_pretrained(tmp_path / "model")
    ids = np.random.default_rng(2).integers(0, 90, 40).tolist()
    with torch.no_grad():
        wanted = model.eval()(input_ids=torch.tensor([ids])).logits[0].numpy()
    recipe = {"source": "s", "output": "o", "weights": "f32", "kv": "f32", "context": 64}
    compile_model(tmp_path / "model", tmp_path / "m.har", options(make_recipe(recipe), frozenset()))
    session = runtime.load(tmp_path / "m.har", threads=2).session()
    for end in (1, 9, 10, 27, 40):
        session.rewind(0)
        found = session.prefill(ids[:end])
        assert np.abs(found - wanted[end - 1]).max() <= 2e-4 * np.abs(wanted).max()
