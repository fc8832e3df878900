"""Logits of adapters against peft on freshly drawn configs: max |difference| <= 2e-4 * max |logit| over an f32 base.

A failure names its seed: HEARTH_PARITY_SEED=that draws the same again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.torch_weights import randomise

from hearth.compiler.job import options
from hearth.compiler.lora.add import add_adapter
from hearth.compiler.pipeline import compile_model
from hearth.runtime import AdapterUse, load
from hearth.runtime.archive import open_archive
from hearth.schemas.lora import AdapterWeights
from hearth.schemas.recipe import make_recipe

torch = pytest.importorskip("torch", reason="needs the parity extra")
transformers = pytest.importorskip("transformers", reason="needs the parity extra")
peft = pytest.importorskip("peft", reason="needs the parity extra")

SEED = int(os.environ.get("HEARTH_PARITY_SEED", np.random.SeedSequence().generate_state(1)[0]))
BOUND = 2e-4
ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
SIZES = {
    "vocab_size": 97, "hidden_size": 48, "intermediate_size": 72, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64,
}  # fmt: skip


def _llama() -> Any:
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(**SIZES))


def _qwen2() -> Any:
    return transformers.Qwen2ForCausalLM(
        transformers.Qwen2Config(**SIZES, tie_word_embeddings=True)
    )


def _qwen3() -> Any:
    config = transformers.Qwen3Config(**SIZES, head_dim=16, tie_word_embeddings=True)
    return transformers.Qwen3ForCausalLM(config)


def _gpt2() -> Any:
    config = transformers.GPT2Config(vocab_size=97, n_embd=48, n_head=4, n_layer=2, n_positions=64)
    return transformers.GPT2LMHeadModel(config)


def _phi3() -> Any:
    config = transformers.Phi3Config(**SIZES, pad_token_id=0)
    return transformers.Phi3ForCausalLM(config)


def _phi() -> Any:
    return transformers.PhiForCausalLM(transformers.PhiConfig(**SIZES))


def _gemma2() -> Any:
    config = transformers.Gemma2Config(
        **SIZES, head_dim=16, sliding_window=7, query_pre_attn_scalar=20, pad_token_id=0
    )
    return transformers.Gemma2ForCausalLM(config)


def _gemma3() -> Any:
    config = transformers.Gemma3TextConfig(
        **SIZES, head_dim=16, sliding_window=7, sliding_window_pattern=2, pad_token_id=0
    )
    return transformers.Gemma3ForCausalLM(config)


MODELS: Mapping[str, Callable[[], Any]] = {
    "llama": _llama,
    "qwen2": _qwen2,
    "qwen3": _qwen3,
    "gpt2": _gpt2,
    "phi": _phi,
    "phi3": _phi3,
    "gemma2": _gemma2,
    "gemma3": _gemma3,
}
CASES: Mapping[str, tuple[str, dict[str, Any]]] = {
    "all linears": ("llama", {"r": 8, "lora_alpha": 16, "target_modules": ALL}),
    "q and v": ("llama", {"r": 3, "lora_alpha": 5, "target_modules": ["q_proj", "v_proj"]}),
    "every linear by peft": ("qwen2", {"r": 4, "target_modules": "all-linear"}),
    "head norms": ("qwen3", {"r": 4, "target_modules": "all-linear"}),
    "capped scores": ("gemma2", {"r": 4, "target_modules": "all-linear"}),
    "norms of what blocks add": ("gemma3", {"r": 5, "lora_alpha": 7, "target_modules": ALL}),
    "rslora": (
        "qwen2",
        {"r": 16, "lora_alpha": 8, "target_modules": ALL, "use_rslora": True},
    ),
    "patterns": (
        "qwen2",
        {
            "r": 4, "lora_alpha": 8, "target_modules": ALL,
            "rank_pattern": {"k_proj": 9, "layers.1.mlp.up_proj": 2},
            "alpha_pattern": {"k_proj": 30, "down_proj": 2},
        },
    ),
    "one layer": (
        "llama",
        {"r": 2, "target_modules": ["up_proj", "o_proj"], "layers_to_transform": [1]},
    ),
    "linears stored as one": (
        "phi3",
        {
            "r": 6, "lora_alpha": 9,
            "target_modules": ["qkv_proj", "o_proj", "gate_up_proj", "down_proj"],
        },
    ),
    "two blocks on one norm": (
        "phi",
        {
            "r": 4, "lora_alpha": 7,
            "target_modules": ["q_proj", "k_proj", "v_proj", "dense", "fc1", "fc2"],
        },
    ),
    "Conv1D": (
        "gpt2",
        {"r": 5, "target_modules": ["c_attn", "c_proj", "c_fc"], "fan_in_fan_out": True},
    ),
}  # fmt: skip


ALTERED = (
    "all linears",
    "patterns",
    "linears stored as one",
    "two blocks on one norm",
    "Conv1D",
)
ROTATED = ("quarot", "quarot,rotate-down", "smoothquant", "smoothquant,quarot")
WORDS = {f"w{number}": number for number in range(1, SIZES["vocab_size"])}
TOKENIZER = {
    "version": "1.0",
    "added_tokens": [],
    "pre_tokenizer": {"type": "Whitespace"},
    "model": {"type": "WordLevel", "vocab": {"<unk>": 0, **WORDS}, "unk_token": "<unk>"},
}


@pytest.mark.parametrize("weights", [AdapterWeights.F32, AdapterWeights.F16])
@pytest.mark.parametrize("name", CASES)
def test_an_adapter_gives_what_peft_gives(
    name: str, weights: AdapterWeights, tmp_path: Path
) -> None:
    trial = Trial.drawn(name, tmp_path)
    bound = BOUND if weights is AdapterWeights.F32 else 10 * BOUND
    trial.check(compiled(tmp_path), weights, bound)


@pytest.mark.parametrize("method", ROTATED)
@pytest.mark.parametrize("name", ALTERED)
def test_an_adapter_of_turned_and_smoothed_weights_gives_what_peft_gives(
    name: str, method: str, tmp_path: Path
) -> None:
    trial = Trial.drawn(name, tmp_path)
    text = " ".join(f"w{number}" for number in np.random.default_rng(1).integers(1, 97, 200))
    (tmp_path / "text").write_text(text)
    (tmp_path / "base" / "tokenizer.json").write_text(json.dumps(TOKENIZER))
    calibration = {
        "calibration": str(tmp_path / "text"), "calibration_windows": 3, "calibration_context": 16,
    }  # fmt: skip
    given = calibration if "smoothquant" in method else {}
    trial.check(compiled(tmp_path, method=method, **given), AdapterWeights.F32, BOUND)


def compiled(folder: Path, **values: object) -> Path:
    """An f32 archive of the base model."""
    recipe = {
        "source": str(folder / "base"), "output": str(folder / "m.har"), "context": 64,
        "target": "native", "weights": "f32", "kv": "f32",
    }  # fmt: skip
    made = options(make_recipe({**recipe, **values}), frozenset())
    compile_model(folder / "base", folder / "m.har", made)
    return folder / "m.har"


@dataclass(frozen=True, eq=False)
class Trial:
    """A base model and an adapter in a folder, and peft's logits [24, V] of some ids with it and without."""

    folder: Path
    ids: Any
    wanted: Any
    plain: Any

    @classmethod
    def drawn(cls, name: str, folder: Path) -> Trial:
        family, asked = CASES[name]
        rng = np.random.default_rng([SEED, list(CASES).index(name)])
        base = MODELS[family]().eval()
        randomise(base, rng)
        base.save_pretrained(folder / "base")
        model = peft.get_peft_model(base, peft.LoraConfig(task_type="CAUSAL_LM", **asked)).eval()
        _draw(model, rng)
        model.save_pretrained(folder / "adapter")
        ids = rng.integers(0, 97, 24)
        with torch.no_grad():
            wanted = model(torch.from_numpy(ids)[None]).logits[0].numpy()
            with model.disable_adapter():
                plain = model(torch.from_numpy(ids)[None]).logits[0].numpy()
        return cls(folder, ids, wanted, plain)

    def check(self, path: Path, weights: AdapterWeights, bound: float) -> None:
        """An archive of the base gives both."""
        add_adapter(open_archive(path), "a", self.folder / "adapter", weights)
        session = load(path, threads=2).session(adapter=AdapterUse("a"))
        first = session.prefill(self.ids[:12])
        found = np.stack([first, *(session.decode(int(token)) for token in self.ids[12:])])
        largest = np.abs(self.wanted).max()
        error = np.abs(found - self.wanted[11:]).max() / largest
        assert error <= bound, f"seed {SEED}: {error:.3g}"
        effect = np.abs(self.wanted - self.plain).max()
        assert effect > 0.02 * largest, "the adapter does nothing to speak of"
        without = load(path, threads=2).session().prefill(self.ids)
        assert np.abs(without - self.plain[-1]).max() / largest <= BOUND, f"seed {SEED}"


def _draw(model: Any, rng: np.random.Generator) -> None:
    """Random A and B, values of f16; peft starts with B = 0."""
    for name, parameter in model.named_parameters():
        if ".lora_" not in name:
            continue
        values = rng.standard_normal(tuple(parameter.shape)) * 0.5 * parameter.shape[1] ** -0.5
        with torch.no_grad():
            parameter.copy_(torch.from_numpy(values.astype(np.float16).astype(np.float32)))
