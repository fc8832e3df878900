"""Logits against transformers on freshly drawn configs: max |difference| <= 2e-4 * max |logit| in f32.

Each case fixes what it is about; sizes, weights, dtype, spelling and prompt are drawn anew in every run. A failure
names its seed: HEARTH_PARITY_SEED=that draws the same again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from support.torch_weights import randomise

from hearth import runtime
from hearth.compiler.frontend import load
from hearth.compiler.ir.evaluate import State, evaluate
from hearth.compiler.lower.targets import find_target
from hearth.compiler.passes import FLOAT_PASSES, run_passes
from hearth.compiler.pipeline import Options, compile_model
from hearth.compiler.quantize.schemes import make_scheme, weight_scheme
from hearth.schemas.commands import KVScheme
from hearth.schemas.recipe import PoolingName

torch = pytest.importorskip("torch", reason="needs the parity extra")
transformers = pytest.importorskip(
    "transformers", minversion="5", reason="needs the parity extra"
)  # 5 reads both spellings of config.json

F32 = NDArray[np.float32]
Engine = Callable[[Path, Sequence[int]], F32]
SEED = int(os.environ.get("HEARTH_PARITY_SEED", np.random.SeedSequence().generate_state(1)[0]))
CONTEXT = 96
BOUND = 2e-4
FLOAT = make_scheme(weight_scheme("f32"), "none", KVScheme.F32)


def graph_logits(directory: Path, ids: Sequence[int]) -> F32:
    """The graph as the frontend makes it, in numpy: f32[T, V]."""
    graph = load(directory, context=CONTEXT, kv=KVScheme.F32).graph
    return evaluate(graph, "main", ids, State.empty())[0]


def passes_logits(directory: Path, ids: Sequence[int]) -> F32:
    """The graph after all float passes, the prompt in two chunks."""
    graph = run_passes(FLOAT_PASSES, load(directory, context=CONTEXT, kv=KVScheme.F32).graph)
    half, state, rows = len(ids) // 2, State.empty(), []
    for chunk in (ids[:half], ids[half:]):
        logits, state = evaluate(graph, "prefill", chunk, state, logit_rows=len(chunk))
        rows.append(logits)
    return np.concatenate(rows)


def archive_logits(directory: Path, ids: Sequence[int]) -> F32:
    """The compiled archive in the runtime: half of the prompt as a prefill, the rest token by token."""
    output = directory.parent / f"{directory.name}.har"
    options = Options(FLOAT, find_target("native"), CONTEXT)
    compile_model(directory, output, options)
    session = runtime.load(output, threads=2).session()
    rows = []
    for end in range(1, len(ids) // 2 + 1):
        session.rewind(0)
        rows.append(session.prefill(ids[:end]))
    rows += [session.decode(token) for token in ids[len(ids) // 2 :]]
    return np.stack(rows)


ENGINES: Mapping[str, Engine] = {
    "graph": graph_logits,
    "passes": passes_logits,
    "archive": archive_logits,
}

LLAMA3 = {
    "rope_type": "llama3",
    "factor": 4.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 3.0,
    "original_max_position_embeddings": 48,
}
LINEAR = {"rope_type": "linear", "factor": 2.5}
LONG = CONTEXT // 2
WINDOW = {"use_sliding_window": True, "sliding_window": 9, "max_window_layers": 0}

GEMMA2 = {"num_hidden_layers": 3, "sliding_window": 13, "query_pre_attn_scalar": 23}
GEMMA3 = {**GEMMA2, "num_hidden_layers": 4, "sliding_window_pattern": 3}

CASES: dict[str, dict[str, Any]] = {
    "llama MHA": {"family": "Llama", "ratio": 1},
    "llama GQA 2, llama3 scaling": {"family": "Llama", "ratio": 2, "rope": LLAMA3},
    "llama GQA 7, linear scaling": {"family": "Llama", "ratio": 7, "rope": LINEAR},
    "llama MQA, tied": {"family": "Llama", "ratio": 4, "kv": 1, "tie_word_embeddings": True},
    "llama attention bias": {"family": "Llama", "ratio": 2, "attention_bias": True},
    "llama mlp bias, tied": {
        "family": "Llama",
        "ratio": 1,
        "mlp_bias": True,
        "tie_word_embeddings": True,
    },
    "llama head_dim = E / H": {"family": "Llama", "ratio": 2, "head_dim": None},
    "mistral window": {"family": "Mistral", "ratio": 2, "sliding_window": 11},
    "mistral window 1": {"family": "Mistral", "ratio": 1, "sliding_window": 1},
    "mistral no window": {"family": "Mistral", "ratio": 7, "sliding_window": None},
    "qwen2 GQA 7, tied": {"family": "Qwen2", "ratio": 7, "tie_word_embeddings": True},
    "qwen2 GQA 2": {"family": "Qwen2", "ratio": 2},
    "qwen2 MHA, window": {"family": "Qwen2", "ratio": 1, **WINDOW},
    "qwen3 GQA 2, tied": {"family": "Qwen3", "ratio": 2, "tie_word_embeddings": True},
    "qwen3 MQA": {"family": "Qwen3", "ratio": 4, "kv": 1},
    "qwen3 GQA 7, attention bias": {"family": "Qwen3", "ratio": 7, "attention_bias": True},
    "qwen3 MHA, window": {"family": "Qwen3", "ratio": 1, **WINDOW},
    "gemma MQA": {"family": "Gemma", "ratio": 4, "kv": 1},
    "gemma MHA, untied": {"family": "Gemma", "ratio": 1, "tie_word_embeddings": False},
    "gemma GQA 2, legacy gelu, attention bias": {
        "family": "Gemma",
        "ratio": 2,
        "hidden_act": "gelu",
        "attention_bias": True,
    },
    "gemma2 GQA 2": {"family": "Gemma2", "ratio": 2, **GEMMA2},
    "gemma2 MQA, low caps, untied": {
        "family": "Gemma2",
        "ratio": 3,
        "kv": 1,
        **GEMMA2,
        "attn_logit_softcapping": 0.5,
        "final_logit_softcapping": 0.75,
        "tie_word_embeddings": False,
    },
    "gemma2 MHA, no caps": {
        "family": "Gemma2",
        "ratio": 1,
        **GEMMA2,
        "attn_logit_softcapping": None,
        "final_logit_softcapping": None,
    },
    "gemma3 MQA": {"family": "Gemma3Text", "ratio": 4, "kv": 1, **GEMMA3},
    "gemma3 GQA 2, linear scaling, untied": {
        "family": "Gemma3Text",
        "ratio": 2,
        **GEMMA3,
        "rope": LINEAR,
        "tie_word_embeddings": False,
    },
    "gemma3 MHA, windows as listed, attention bias": {
        "family": "Gemma3Text",
        "ratio": 1,
        **GEMMA3,
        "num_hidden_layers": 3,
        "layer_types": ["full_attention", "sliding_attention", "full_attention"],
        "attention_bias": True,
    },
    "qwen2 windows in later layers": {
        "family": "Qwen2",
        "ratio": 2,
        **WINDOW,
        "num_hidden_layers": 3,
        "max_window_layers": 1,
    },
    "qwen2 llama3 scaling": {"family": "Qwen2", "ratio": 2, "rope": LLAMA3},
    "phi, half of each head": {
        "family": "Phi",
        "ratio": 1,
        "head_dim": None,
        "dim": 12,
        "rope": {"partial_rotary_factor": 0.5},
    },
    "phi, two fifths": {
        "family": "Phi",
        "ratio": 1,
        "head_dim": None,
        "dim": 20,
        "rope": {"partial_rotary_factor": 0.4},
    },
    "phi GQA 3, tied, erf": {
        "family": "Phi",
        "ratio": 3,
        "head_dim": None,
        "hidden_act": "gelu",
        "rope": {"partial_rotary_factor": 1.0},
        "tie_word_embeddings": True,
    },
    "stablelm MHA, biases": {
        "family": "StableLm",
        "ratio": 1,
        "head_dim": None,
        "dim": 16,
        "rope": {"partial_rotary_factor": 0.25},
        "use_qkv_bias": True,
    },
    "stablelm GQA 3, tied": {
        "family": "StableLm",
        "ratio": 3,
        "head_dim": None,
        "dim": 8,
        "rope": {"partial_rotary_factor": 0.25},
        "tie_word_embeddings": True,
    },
    "phi3 MHA": {"family": "Phi3", "ratio": 1, "head_dim": None},
    "phi3 GQA 4, tied": {
        "family": "Phi3",
        "ratio": 4,
        "head_dim": None,
        "tie_word_embeddings": True,
    },
    "phi3 GQA 2, window": {"family": "Phi3", "ratio": 2, "head_dim": None, "sliding_window": 11},
    "phi3 longrope, short": {"family": "Phi3", "ratio": 2, "head_dim": None, "longrope": CONTEXT},
    "phi3 longrope, long": {"family": "Phi3", "ratio": 1, "head_dim": None, "longrope": LONG},
    "phi3 partial longrope, long, tied": {
        "family": "Phi3",
        "ratio": 3,
        "head_dim": None,
        "dim": 16,
        "rope": {"partial_rotary_factor": 0.75},
        "longrope": LONG,
        "tie_word_embeddings": True,
    },
    "phi3 partial": {
        "family": "Phi3",
        "ratio": 3,
        "head_dim": None,
        "dim": 32,
        "rope": {"partial_rotary_factor": 0.25},
    },
    "llama longrope, long": {"family": "Llama", "ratio": 2, "head_dim": None, "longrope": LONG},
}

POOLED = (
    "llama GQA 2, llama3 scaling",
    "qwen2 GQA 7, tied",
    "qwen3 GQA 2, tied",
    "phi3 GQA 4, tied",
    "phi, half of each head",
    "gemma MQA",
    "gemma2 GQA 2",
    "gemma3 MQA",
)


def _config(case: Mapping[str, Any], rng: np.random.Generator) -> Any:
    """A config of odd sizes; what the case says is kept."""
    drawn = ("family", "ratio", "kv", "rope", "dim", "longrope")
    fixed = {key: value for key, value in case.items() if key not in drawn}
    kv_heads = case.get("kv") or int(rng.integers(1, 4))
    heads = kv_heads * case["ratio"]
    head_dim = case.get("dim") or 2 * int(rng.integers(3, 10))
    width = head_dim + 2 * int(rng.integers(1, 5)) if "head_dim" not in fixed else head_dim
    theta = float(rng.choice([100.0, 10000.0, 500000.0]))
    rope = {"rope_type": "default", "rope_theta": theta} | case.get("rope", {})
    if "longrope" in case:
        rope |= _longrope(int(head_dim * rope.get("partial_rotary_factor", 1)) // 2, rng)
        fixed["original_max_position_embeddings"] = case["longrope"]
    values = {
        "vocab_size": 2 * int(rng.integers(30, 90)) + 1,
        "hidden_size": heads * width,
        "intermediate_size": 2 * int(rng.integers(20, 60)) + 1,
        "num_hidden_layers": int(rng.integers(1, 4)),
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "head_dim": head_dim,
        "max_position_embeddings": 128,
        "rms_norm_eps": float(rng.choice([1e-6, 1e-5, 1e-3])),
        "rope_parameters": rope,
        "tie_word_embeddings": False,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 0,
    }
    values |= fixed
    if case["family"] == "Gemma3Text":
        local = {"rope_type": "default", "rope_theta": float(rng.choice([50.0, 10000.0]))}
        values["rope_parameters"] = {"full_attention": rope, "sliding_attention": local}
    if case["family"] in ("Phi", "StableLm"):
        values["layer_norm_eps"] = values.pop("rms_norm_eps")
    if values["head_dim"] is None:
        del values["head_dim"]  # what some configs must not name
    return getattr(transformers, f"{case['family']}Config")(**values)


def _longrope(pairs: int, rng: np.random.Generator) -> dict[str, Any]:
    return {
        "rope_type": "longrope",
        "short_factor": (1 + rng.random(pairs)).tolist(),
        "long_factor": (1 + 20 * rng.random(pairs)).tolist(),
    }


def _prompt(case: Mapping[str, Any], vocab: int, rng: np.random.Generator) -> list[int]:
    """Longer than what transformers turns by the short factors, where the context is."""
    least = 30 if case.get("longrope", CONTEXT) == CONTEXT else case["longrope"] + 1
    ids: list[int] = rng.integers(0, vocab, int(rng.integers(least, CONTEXT + 1))).tolist()
    return ids


def _save(case: Mapping[str, Any], directory: Path, rng: np.random.Generator) -> Any:
    """The checkpoint on disk, in a drawn dtype, number of shards and spelling; gives its config."""
    config = _config(case, rng)
    model = transformers.AutoModelForCausalLM.from_config(config)
    randomise(model, rng)
    dtype = (torch.float32, torch.float16, torch.bfloat16)[rng.integers(3)]
    shard_size = ("1GB", "100KB")[rng.integers(2)]
    model.to(dtype).save_pretrained(directory, max_shard_size=shard_size)
    if rng.integers(2):
        _respell(directory / "config.json")
    return config


def _respell(path: Path) -> None:
    """config.json as transformers 4 writes it."""
    values = json.loads(path.read_text())
    rope = values.pop("rope_parameters")
    if "sliding_attention" in rope:
        values["rope_local_base_freq"] = rope["sliding_attention"]["rope_theta"]
        rope = rope["full_attention"]
    values["rope_theta"] = rope.pop("rope_theta")
    if "partial_rotary_factor" in rope:
        values["partial_rotary_factor"] = rope.pop("partial_rotary_factor")
    if "original_max_position_embeddings" in values:
        rope.pop("original_max_position_embeddings", None)
    values["rope_scaling"] = None if rope["rope_type"] == "default" else rope
    values["torch_dtype"] = values.pop("dtype")
    values.pop("layer_types", None)
    path.write_text(json.dumps(values))


def _reference(directory: Path, ids: Sequence[int]) -> F32:
    """What transformers computes from the same files, loaded as they are stored, in f32."""
    model = transformers.AutoModelForCausalLM.from_pretrained(
        directory, dtype="auto", attn_implementation="eager"
    ).float()
    with torch.no_grad():
        logits = model.eval()(torch.tensor([list(ids)])).logits[0]
    return np.asarray(logits.numpy(), np.float32)


@pytest.mark.parametrize("case", CASES)
def test_logits(case: str, tmp_path: Path) -> None:
    rng = np.random.default_rng([SEED, list(CASES).index(case)])
    config = _save(CASES[case], tmp_path, rng)
    ids = _prompt(CASES[case], config.vocab_size, rng)
    wanted = _reference(tmp_path, ids)
    for name, engine in ENGINES.items():
        found = engine(tmp_path, ids)
        assert found.shape == wanted.shape
        worst = float(np.abs(found - wanted).max() / np.abs(wanted).max())
        print(f"HEARTH_PARITY_SEED={SEED} {case}, {name}: {worst:.2e} of max |logit|")
        assert worst <= BOUND, f"HEARTH_PARITY_SEED={SEED} {case}, {name}: {config}"


@pytest.mark.parametrize("case", POOLED)
@pytest.mark.parametrize("pooling", ["last", "mean", "cls"])
def test_pooled_rows(case: str, pooling: PoolingName, tmp_path: Path) -> None:
    """The vector of a text: transformers' last hidden states (after the last norm), pooled as sentence-transformers."""
    rng = np.random.default_rng([SEED, list(CASES).index(case), 7])
    config = _save(CASES[case], tmp_path / "model", rng)
    ids = rng.integers(0, config.vocab_size, int(rng.integers(30, CONTEXT + 1))).tolist()
    model = transformers.AutoModel.from_pretrained(
        tmp_path / "model", dtype="auto", attn_implementation="eager"
    ).float()
    with torch.no_grad():
        rows = model.eval()(torch.tensor([ids])).last_hidden_state[0].numpy()
    wanted = {"last": rows[-1], "mean": rows.mean(0), "cls": rows[0]}[pooling]
    output = tmp_path / "pooled.har"
    options = Options(FLOAT, find_target("native"), CONTEXT, pooling=pooling)
    compile_model(tmp_path / "model", output, options)
    found = runtime.load(output, threads=2).vectors(chunk=11).embed([ids])[0]
    worst = float(np.abs(found - wanted).max() / np.abs(rows).max())
    assert worst <= BOUND, f"HEARTH_PARITY_SEED={SEED} {case}, {pooling}: {config}"


@pytest.mark.parametrize(
    ("case", "causal"),
    [
        *((case, True) for case in POOLED),
        *((case, False) for case in POOLED if "sliding_window" not in CASES[case]),
    ],
)
def test_a_body_without_a_head(case: str, causal: bool, tmp_path: Path) -> None:
    """What AutoModel saves, and lets see the whole text where the config says so."""
    rng = np.random.default_rng([SEED, list(CASES).index(case), 8, causal])
    config = _config(CASES[case], rng)
    config.is_causal = causal
    model = transformers.AutoModel.from_config(config, attn_implementation="eager")
    randomise(model, rng)
    model.save_pretrained(tmp_path / "body")
    ids = rng.integers(0, config.vocab_size, int(rng.integers(30, CONTEXT + 1))).tolist()
    with torch.no_grad():
        rows = model.eval()(torch.tensor([ids])).last_hidden_state[0].numpy()
    output = tmp_path / "body.har"
    options = Options(FLOAT, find_target("native"), CONTEXT, pooling="mean")
    compile_model(tmp_path / "body", output, options)
    found = runtime.load_encoder(output, threads=2).embed([ids])[0]
    worst = float(np.abs(found - rows.mean(0)).max() / np.abs(rows).max())
    assert worst <= BOUND, f"HEARTH_PARITY_SEED={SEED} {case}, causal {causal}: {config}"
