"""The text part of Gemma 3 with a vision tower: its config and its tensors within the whole model's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import plain_decoder
from support.checkpoints import GEMMA3, random_tensors, write_checkpoint

from hearth.compiler.frontend import load
from hearth.compiler.frontend.blueprint import Request
from hearth.compiler.frontend.families import find_family
from hearth.compiler.frontend.fields import Fields
from hearth.compiler.ir.evaluate import State, evaluate
from hearth.schemas.commands import KVScheme
from hearth.schemas.errors import CheckpointError
from hearth.schemas.manifest import Dims

GEMMA3_4B = {  # as published: what is not said is as in Gemma3TextConfig
    "architectures": ["Gemma3ForConditionalGeneration"],
    "boi_token_index": 255999,
    "eoi_token_index": 256000,
    "eos_token_id": [1, 106],
    "image_token_index": 262144,
    "initializer_range": 0.02,
    "mm_tokens_per_image": 256,
    "model_type": "gemma3",
    "text_config": {
        "hidden_size": 2560,
        "intermediate_size": 10240,
        "model_type": "gemma3_text",
        "num_hidden_layers": 34,
        "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
        "sliding_window": 1024,
    },
    "torch_dtype": "bfloat16",
    "transformers_version": "4.50.0.dev0",
    "vision_config": {"hidden_size": 1152, "model_type": "siglip_vision_model"},
}
TEXT = {key: GEMMA3[key] for key in GEMMA3 if key not in ("architectures", "tie_word_embeddings")}
WHOLE: dict[str, Any] = {**GEMMA3_4B, "text_config": TEXT, "eos_token_id": 2}
LAYOUTS = {
    "transformers 4": ("language_model.", ""),
    "transformers 5": ("", "model."),
}


def _tensors(beginning: str, pictures: str) -> dict[str, np.ndarray]:
    """The text's tensors as a file of the whole model names them, and some of the other parts'."""
    text = random_tensors(GEMMA3)
    named = {
        beginning + name if beginning else name.replace("model.", "model.language_model.", 1): each
        for name, each in text.items()
    }
    other = np.ones((3, 4), np.float32)
    tower = f"{pictures}vision_tower.vision_model.embeddings.patch_embedding.weight"
    projector = f"{pictures}multi_modal_projector.mm_input_projection_weight"
    return {**named, tower: other, projector: other}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_text_part_computes_what_the_papers_say(layout: str, tmp_path: Path) -> None:
    write_checkpoint(tmp_path, WHOLE, _tensors(*LAYOUTS[layout]))
    model = load(tmp_path, context=40, kv=KVScheme.F32)
    ids = np.random.default_rng(3).integers(0, 53, 33)
    found, _ = evaluate(model.graph, "main", ids, State.empty())
    wanted = plain_decoder.logits(GEMMA3, random_tensors(GEMMA3), ids.tolist())
    assert np.abs(found - wanted).max() <= 2e-4 * np.abs(wanted).max()
    assert model.family == "gemma3" and model.assets.eos_ids == (2,)
    assert any("vision tower" in note for note in model.notes)


def test_what_a_published_file_leaves_out_is_as_in_the_configuration_class() -> None:
    fields = Fields(GEMMA3_4B, "config.json")
    made = find_family(fields).blueprint(fields, Request(None, KVScheme.F32))
    assert made.dims == Dims(34, 2560, 8, 4, 256, 10240, 262_208)
    assert made.context == 4096
    assert "lm_head.weight" not in dict(made.shapes())


@pytest.mark.parametrize(
    ("key", "value", "code"),
    [
        ("final_logit_softcapping", 30.0, "config.unsupported"),
        ("new_trick", 1, "config.key_unknown"),
        ("model_type", "llama", "config.unsupported"),
    ],
)
def test_what_would_change_the_maths_of_the_text_is_refused_where_it_stands(
    key: str, value: object, code: str, tmp_path: Path
) -> None:
    write_checkpoint(tmp_path, {**WHOLE, "text_config": {**TEXT, key: value}}, _tensors("", ""))
    with pytest.raises(CheckpointError, match="text_config") as caught:
        load(tmp_path, context=40, kv=KVScheme.F32)
    assert caught.value.code == code and key in caught.value.found


def test_a_tensor_that_has_no_place_is_refused(tmp_path: Path) -> None:
    tensors = _tensors("", "model.") | {"model.audio_tower.weight": np.ones((2, 2), np.float32)}
    write_checkpoint(tmp_path, WHOLE, tensors)
    with pytest.raises(CheckpointError, match="audio_tower") as caught:
        load(tmp_path, context=40, kv=KVScheme.F32)
    assert caught.value.code == "checkpoint.tensor_left_over"
