"""The text part of Gemma 3 with a vision tower, as transformers saves the whole model: the same logits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.torch_weights import randomise

from hearth import runtime
from hearth.compiler.job import options
from hearth.compiler.lora.add import add_adapter
from hearth.compiler.pipeline import compile_model
from hearth.runtime.archive import open_archive
from hearth.schemas.lora import AdapterWeights
from hearth.schemas.recipe import make_recipe

torch = pytest.importorskip("torch", reason="needs the parity extra")
transformers = pytest.importorskip("transformers", minversion="5", reason="needs the parity extra")
peft = pytest.importorskip("peft", reason="needs the parity extra")

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


IDS = np.random.default_rng(2).integers(0, 90, 40).tolist()


def _drawn() -> Any:
    config = transformers.Gemma3Config(
        text_config=TEXT, vision_config=VISION, mm_tokens_per_image=4, image_token_index=96
    )
    model = transformers.Gemma3ForConditionalGeneration(config)
    randomise(model, np.random.default_rng(1))
    return model.eval()


def _logits(model: Any) -> Any:
    with torch.no_grad():
        return model(input_ids=torch.tensor([IDS])).logits[0].numpy()


def _compiled(folder: Path) -> Path:
    recipe = {"source": "s", "output": "o", "weights": "f32", "kv": "f32", "context": 64}
    compile_model(folder / "model", folder / "m.har", options(make_recipe(recipe), frozenset()))
    return folder / "m.har"


def test_text_alone(tmp_path: Path) -> None:
    model = _drawn()
    model.save_pretrained(tmp_path / "model")
    wanted = _logits(model)
    session = runtime.load(_compiled(tmp_path), threads=2).session()
    for end in (1, 9, 10, 27, 40):
        session.rewind(0)
        found = session.prefill(IDS[:end])
        assert np.abs(found - wanted[end - 1]).max() <= 2e-4 * np.abs(wanted).max()


def test_an_adapter_of_the_text_part(tmp_path: Path) -> None:
    """It names the modules as the whole model has them."""
    base = _drawn()
    base.save_pretrained(tmp_path / "model")
    plain = _logits(base)
    asked = {"r": 4, "lora_alpha": 9, "target_modules": r".*language_model.*(q|v|o|up|down)_proj"}
    model = peft.get_peft_model(base, peft.LoraConfig(task_type="CAUSAL_LM", **asked)).eval()
    rng = np.random.default_rng(3)
    for name, parameter in model.named_parameters():
        if ".lora_" in name:
            values = rng.standard_normal(tuple(parameter.shape)) * 0.5 * parameter.shape[1] ** -0.5
            with torch.no_grad():
                parameter.copy_(torch.from_numpy(values.astype(np.float32)))
    model.save_pretrained(tmp_path / "adapter")
    wanted, path = _logits(model), _compiled(tmp_path)
    add_adapter(open_archive(path), "a", tmp_path / "adapter", AdapterWeights.F32)
    loaded = runtime.load(path, threads=2)
    found = loaded.session(adapter=runtime.AdapterUse("a")).prefill(IDS)
    assert np.abs(found - wanted[-1]).max() <= 2e-4 * np.abs(wanted).max()
    assert np.abs(wanted - plain).max() > 0.02 * np.abs(wanted).max()
