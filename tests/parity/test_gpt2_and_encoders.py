"""GPT-2 and BERT's kin against transformers on freshly drawn configs: max |difference| <= 2e-4 * max |value| in f32.

Each case fixes what it is about; sizes, weights, dtype and text are drawn anew in every run. A failure names its
seed: HEARTH_PARITY_SEED=that draws the same again.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from support.minilm import TEXTS, cosine, minilm
from support.torch_weights import randomise

from hearth import runtime
from hearth.compiler.frontend import load
from hearth.compiler.frontend.activations import ACTIVATIONS
from hearth.compiler.ir.evaluate import State, evaluate, run_entry
from hearth.compiler.lower.targets import find_target
from hearth.compiler.passes import FLOAT_PASSES, run_passes
from hearth.compiler.pipeline import Options, compile_model
from hearth.compiler.quantize.schemes import make_scheme, weight_scheme
from hearth.runtime.text.tokenizer import Encoded
from hearth.schemas.commands import KVScheme

torch = pytest.importorskip("torch", reason="needs the parity extra")
transformers = pytest.importorskip("transformers", minversion="5", reason="needs the parity extra")

F32 = NDArray[np.float32]
SEED = int(os.environ.get("HEARTH_PARITY_SEED", np.random.SeedSequence().generate_state(1)[0]))
BOUND = 2e-4
FLOAT = make_scheme(weight_scheme("f32"), "none", KVScheme.F32)
NAMES = sorted(set(ACTIVATIONS) & set(transformers.activations.ACT2FN))

GPT2: dict[str, dict[str, Any]] = {
    **{f"activation {name}": {"activation_function": name} for name in NAMES},
    "untied": {"tie_word_embeddings": False},
    "n_inner": {"n_inner": 51},
    "one head": {"n_head": 1},
    "scaled by layer": {"scale_attn_by_inverse_layer_idx": True},
    "not scaled": {"scale_attn_weights": False},
    "upcast": {"reorder_and_upcast_attn": True},
}
ENCODERS: dict[str, dict[str, Any]] = {
    **{f"Bert, {name}": {"family": "Bert", "hidden_act": name} for name in NAMES},
    "Bert, three types": {"family": "Bert", "type_vocab_size": 3},
    "Bert, with its heads": {"family": "Bert", "model": "BertForMaskedLM"},
    "Bert, one head": {"family": "Bert", "num_attention_heads": 1},
    "Roberta": {"family": "Roberta", "pad_token_id": 1, "type_vocab_size": 1},
    "Roberta, padding elsewhere": {"family": "Roberta", "pad_token_id": 5},
    "Roberta, with its head": {"family": "Roberta", "model": "RobertaForMaskedLM"},
    "XLMRoberta": {"family": "XLMRoberta", "pad_token_id": 1},
    "DistilBert": {"family": "DistilBert"},
    "DistilBert, relu": {"family": "DistilBert", "activation": "relu"},
}


def _save(model: Any, directory: Path, rng: np.random.Generator) -> Any:
    """The checkpoint in a drawn dtype; gives the model of the same files in f32."""
    randomise(model, rng)
    dtype = (torch.float32, torch.float16, torch.bfloat16)[rng.integers(3)]
    model.to(dtype).save_pretrained(directory)
    again = type(model).from_pretrained(directory, dtype=torch.float32, attn_implementation="eager")
    return again.eval()


def _close(found: F32, wanted: Any, what: str) -> None:
    wanted = np.asarray(wanted.detach().numpy(), np.float32)
    assert found.shape == wanted.shape
    worst = float(np.abs(found - wanted).max() / np.abs(wanted).max())
    print(f"HEARTH_PARITY_SEED={SEED} {what}: {worst:.2e}")
    assert worst <= BOUND, f"HEARTH_PARITY_SEED={SEED} {what}"


@pytest.mark.parametrize("case", GPT2)
def test_gpt2(case: str, tmp_path: Path) -> None:
    rng = np.random.default_rng([SEED, list(GPT2).index(case)])
    heads = GPT2[case].get("n_head") or int(rng.integers(1, 5))
    values = {
        "vocab_size": 2 * int(rng.integers(30, 90)) + 1,
        "n_positions": 77,
        "n_embd": heads * int(rng.integers(5, 17)),
        "n_head": heads,
        "n_layer": int(rng.integers(1, 4)),
        "layer_norm_epsilon": float(rng.choice([1e-6, 1e-5, 1e-3])),
        "bos_token_id": 1,
        "eos_token_id": 2,
    }
    config = transformers.GPT2Config(**values | GPT2[case])
    model = _save(transformers.GPT2LMHeadModel(config), tmp_path, rng)
    ids = rng.integers(0, config.vocab_size, int(rng.integers(20, 78))).tolist()
    with torch.no_grad():
        wanted = model(torch.tensor([ids])).logits[0]
    graph = load(tmp_path, context=None, kv=KVScheme.F32).graph
    _close(evaluate(graph, "main", ids, State.empty())[0], wanted, f"{case}, graph")
    _close(_in_chunks(run_passes(FLOAT_PASSES, graph), ids), wanted, f"{case}, passes")
    _close(_archive_logits(tmp_path, ids), wanted, f"{case}, archive")


def _in_chunks(graph: Any, ids: list[int]) -> F32:
    half, state, rows = len(ids) // 2, State.empty(), []
    for chunk in (ids[:half], ids[half:]):
        logits, state = evaluate(graph, "prefill", chunk, state, logit_rows=len(chunk))
        rows.append(logits)
    return np.concatenate(rows)


def _compiled(directory: Path, scheme: Any = FLOAT) -> Path:
    output = directory.parent / f"{directory.name}.{scheme.weights.name}.har"
    compile_model(directory, output, Options(scheme, find_target("native")))
    return output


def _archive_logits(directory: Path, ids: list[int]) -> F32:
    """Half of the prompt as prefills, the rest token by token."""
    session = runtime.load(_compiled(directory), threads=2).session()
    rows = []
    for end in range(1, len(ids) // 2 + 1):
        session.rewind(0)
        rows.append(session.prefill(ids[:end]))
    rows += [session.decode(token) for token in ids[len(ids) // 2 :]]
    return np.stack(rows)


def _encoder(case: Mapping[str, Any], rng: np.random.Generator) -> Any:
    heads = case.get("num_attention_heads") or int(rng.integers(1, 5))
    width, inner = heads * int(rng.integers(5, 17)), 2 * int(rng.integers(20, 60)) + 1
    values: dict[str, Any] = {
        "vocab_size": 2 * int(rng.integers(30, 90)) + 1,
        "max_position_embeddings": 77,
    }
    if case["family"] == "DistilBert":
        values |= {"dim": width, "hidden_dim": inner, "n_heads": heads, "n_layers": 2}
    else:
        values |= {
            "hidden_size": width,
            "intermediate_size": inner,
            "num_attention_heads": heads,
            "num_hidden_layers": int(rng.integers(1, 4)),
            "layer_norm_eps": float(rng.choice([1e-12, 1e-5])),
        }
    fixed = {key: value for key, value in case.items() if key not in ("family", "model")}
    return getattr(transformers, f"{case['family']}Config")(**values | fixed)


@pytest.mark.parametrize("case", ENCODERS)
def test_encoders(case: str, tmp_path: Path) -> None:
    rng = np.random.default_rng([SEED, list(ENCODERS).index(case), 1])
    wish = ENCODERS[case]
    config = _encoder(wish, rng)
    kind = getattr(transformers, wish.get("model") or f"{wish['family']}Model")
    model = _save(kind(config), tmp_path, rng)
    base = getattr(model, model.base_model_prefix, model)
    ids = rng.integers(6, config.vocab_size, int(rng.integers(20, 70)))  # none is the padding
    inputs: dict[str, Any] = {"input_ids": torch.from_numpy(ids[None])}
    given = {"tokens": ids}
    if getattr(config, "type_vocab_size", 0) > 1:
        given["types"] = rng.integers(0, config.type_vocab_size, len(ids))
        inputs["token_type_ids"] = torch.from_numpy(given["types"][None])
    with torch.no_grad():
        wanted = base(**inputs).last_hidden_state[0]
    graph = load(tmp_path, context=None, kv=KVScheme.F32).graph
    for name, made in (("graph", graph), ("passes", run_passes(FLOAT_PASSES, graph))):
        _close(run_entry(made, "hidden", given)[0]["hidden"], wanted, f"{case}, {name}")
        (vector,) = run_entry(made, "main", given)[0]["embedding"]
        _close(vector, wanted.mean(dim=0), f"{case}, {name}, vector")
    encoder = runtime.load_encoder(_compiled(tmp_path), threads=2)
    types = given.get("types", np.zeros(len(ids), np.int64))
    found = encoder.hidden(Encoded(ids.tolist(), types.tolist()))
    _close(found, wanted, f"{case}, archive")


@pytest.mark.parametrize("name", ["f32", "int8"])
def test_minilm(name: str, tmp_path: Path) -> None:
    """Real weights: the vectors that sentence-transformers would give, by transformers itself."""
    directory = minilm()
    tokenizer = transformers.AutoTokenizer.from_pretrained(directory)
    model = transformers.AutoModel.from_pretrained(directory, attn_implementation="eager").eval()
    weights = weight_scheme(name)
    scheme = FLOAT if name == "f32" else make_scheme(weights, "dynamic", KVScheme.INT8)
    output = tmp_path / "minilm.har"
    compile_model(directory, output, Options(scheme, find_target("native")))
    encoder = runtime.load_encoder(output, threads=2)
    for text in TEXTS:
        with torch.no_grad():
            rows = model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0]
        wanted = torch.nn.functional.normalize(rows.mean(dim=0), dim=0).numpy()
        (found,) = encoder.embed([text])
        assert cosine(found, wanted) >= (0.9999 if name == "f32" else 0.995), text
