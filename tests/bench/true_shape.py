"""Logits of the shape of Qwen3-0.6B against transformers: PYTHONPATH=tests python tests/bench/true_shape.py FOLDER

Makes a checkpoint of the shape of Qwen3-0.6B with random weights (bf16, 1.2 GB) in FOLDER where there is none, compiles
it with f32 weights (2.4 GB) and reads a prompt, half of it at once and half token by token. Needs the parity extra.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np
import torch
import transformers
from support.torch_weights import randomise

from hearth.compiler.lower.targets import find_target
from hearth.compiler.pipeline import Options, compile_model
from hearth.compiler.quantize.schemes import make_scheme, weight_scheme
from hearth.runtime import load
from hearth.schemas.commands import KVScheme

QWEN3 = {
    "vocab_size": 151936,
    "hidden_size": 1024,
    "intermediate_size": 3072,
    "num_hidden_layers": 28,
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "max_position_embeddings": 40960,
    "rms_norm_eps": 1e-6,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1e6},
    "tie_word_embeddings": True,
    "bos_token_id": 151643,
    "eos_token_id": 151645,
}
TOKENS = 24


def checkpoint(folder: Path) -> Path:
    if not (folder / "config.json").exists():
        config = transformers.Qwen3Config(**QWEN3)
        model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
        randomise(model, np.random.default_rng(0))
        model.save_pretrained(folder)
    return folder


def wanted(folder: Path, ids: list[int]) -> np.ndarray:
    model = transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager"
    )
    with torch.no_grad():
        return np.asarray(model.eval()(torch.tensor([ids])).logits[0].numpy())


def found(folder: Path, ids: list[int]) -> np.ndarray:
    output = folder.parent / f"{folder.name}-f32.har"
    scheme = make_scheme(weight_scheme("f32"), "none", KVScheme.F32)
    compile_model(folder, output, Options(scheme, find_target("native"), 64))
    session = load(output, threads=2).session()
    rows = [*session.verify(ids[: TOKENS // 2])]
    rows += [session.decode(token) for token in ids[TOKENS // 2 :]]
    output.unlink()
    return np.stack(rows)


def main() -> None:
    folder = checkpoint(Path(sys.argv[1]))
    ids = np.random.default_rng(1).integers(0, QWEN3["vocab_size"], TOKENS).tolist()
    began = time.perf_counter()
    ours, theirs = found(folder, ids), wanted(folder, ids)
    worst = float(np.abs(ours - theirs).max() / np.abs(theirs).max())
    same = float((ours.argmax(1) == theirs.argmax(1)).mean())
    seconds = round(time.perf_counter() - began, 1)
    print(json.dumps({"of_max_logit": worst, "same_first": same, "seconds": seconds}))


if __name__ == "__main__":
    main()
