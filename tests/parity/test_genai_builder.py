"""Decoders of onnxruntime-genai's builder: f32 equals the Hugging Face path, weights too; int4 keeps its codes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from support.compiling import wanted
from support.raised import Source
from tokenizers import Tokenizer
from tokenizers.models import BPE

from hearth.compiler.frontend.onnx.reader import read_model
from hearth.compiler.pipeline import compile_model
from hearth.runtime import load
from hearth.runtime.archive.reader import open_archive
from hearth.runtime.archive.rows import packed_rows
from hearth.schemas.commands import Layout

torch = pytest.importorskip("torch", reason="needs the parity extra")
transformers = pytest.importorskip("transformers", reason="needs the parity extra")
pytest.importorskip("onnxruntime_genai", reason="needs the parity extra")

F32 = NDArray[np.float32]
SEED = int(os.environ.get("HEARTH_PARITY_SEED", np.random.SeedSequence().generate_state(1)[0]))
BOUND = 2e-4
FLOAT = wanted(weights="f32", kv="f32", activations="none")
FAMILIES = ("llama", "qwen2")
VOCAB = 320


def checkpoint(family: str, directory: Path, tied: bool) -> Path:
    """A random model with a tokenizer of single letters; heads of 16, as the fused attention wants them."""
    rng = np.random.default_rng(SEED)
    kv_heads = int(rng.choice([1, 2, 4]))
    config = {
        "vocab_size": VOCAB,
        "hidden_size": int(rng.choice([64, 96])),
        "intermediate_size": int(rng.choice([96, 160])),
        "num_hidden_layers": int(rng.integers(1, 4)),
        "num_attention_heads": 4,
        "num_key_value_heads": kv_heads,
        "head_dim": 16,
        "max_position_embeddings": 128,
        "tie_word_embeddings": tied,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 0,
    }
    kinds = {
        "llama": (transformers.LlamaConfig, transformers.LlamaForCausalLM),
        "qwen2": (transformers.Qwen2Config, transformers.Qwen2ForCausalLM),
    }
    if family == "qwen2":
        config["hidden_size"] = 64  # its heads are hidden_size / heads wide
        del config["head_dim"]
    make_config, make_model = kinds[family]
    torch.manual_seed(SEED % 2**31)
    model = make_model(make_config(**config)).float().eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias") or "norm" in name:
                parameter.add_(0.2 * torch.randn_like(parameter))
    model.save_pretrained(directory)
    _tokenizer(directory)
    return directory


def _tokenizer(directory: Path) -> None:
    model = BPE(vocab={f"<{i}>": i for i in range(VOCAB)}, merges=[])
    Tokenizer(model).save(str(directory / "tokenizer.json"))
    names = {"bos_token": "<1>", "eos_token": "<2>", "pad_token": "<0>"}
    form = {"tokenizer_class": "PreTrainedTokenizerFast", **names}
    (directory / "tokenizer_config.json").write_text(json.dumps(form))


def export(source: Path, precision: str, *options: str) -> Path:
    """The directory that the builder writes."""
    target = source.parent / f"{source.name}-{precision}"
    command = [sys.executable, "-m", "onnxruntime_genai.models.builder", "-i", str(source)]
    command += ["-o", str(target), "-p", precision, "-e", "cpu", "-c", str(source.parent / "cache")]
    if options:
        command += ["--extra_options", *options]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return target


def prompt() -> NDArray[np.int64]:
    return np.random.default_rng(SEED + 1).integers(3, VOCAB, 24)


def compiled(source: Path) -> Path:
    archive = source.parent / f"{source.name}.har"
    compile_model(source, archive, FLOAT)
    return archive


def logits(archive: Path, ids: NDArray[np.int64]) -> F32:
    """After a prefill, and after each of the last four tokens."""
    session = load(archive, threads=2).session()
    rows = [session.prefill(ids[:-4])]
    return np.stack([*rows, *(session.decode(int(token)) for token in ids[-4:])])


def source_logits(model: Path, ids: NDArray[np.int64]) -> F32:
    source = Source.open(model)
    rows = [source.feed(ids[:-4])[-1]]
    return np.stack([*rows, *(source.feed(np.array([token]))[-1] for token in ids[-4:])])


def agree(found: F32, want: F32) -> None:
    assert np.abs(found - want).max() <= BOUND * np.abs(want).max(), f"seed {SEED}"
    assert np.array_equal(found.argmax(-1), want.argmax(-1)), f"seed {SEED}"


def packed(archive: Path) -> set[bytes]:
    """The bytes of every packed weight."""
    opened = open_archive(archive)
    weights = opened.weights()
    entries = [each for each in opened.weights_index.tensors if each.layout is not None]
    return {bytes(weights[each.offset : each.offset + each.nbytes]) for each in entries}


@pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])
@pytest.mark.parametrize("family", FAMILIES)
def test_f32(tmp_path: Path, family: str, tied: bool) -> None:
    source = checkpoint(family, tmp_path / "hf", tied)
    exported = export(source, "fp32")
    ours, theirs = compiled(exported), compiled(source)
    ids = prompt()
    agree(logits(ours, ids), source_logits(exported / "model.onnx", ids))
    agree(logits(ours, ids), logits(theirs, ids))
    assert packed(ours) == packed(theirs), f"seed {SEED}"


@pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])
@pytest.mark.parametrize("family", FAMILIES)
def test_int4(tmp_path: Path, family: str, tied: bool) -> None:
    source = checkpoint(family, tmp_path / "hf", tied)
    exported = export(source, "int4", "accuracy_level=1", "int4_accuracy_level=1")
    archive = compiled(exported)
    agree(logits(archive, prompt()), source_logits(exported / "model.onnx", prompt()))
    check_codes(archive, exported / "model.onnx")


def check_codes(archive: Path, model: Path) -> None:
    """Every code of the source's blobs is in the archive, row by row."""
    opened = open_archive(archive)
    data = np.frombuffer(opened.weights(), np.uint8)
    kept: set[bytes] = set()
    for entry in opened.weights_index.tensors:
        if entry.layout is Layout.G4B16:
            part = data[entry.offset : entry.offset + entry.nbytes]
            rows = packed_rows(part, entry, 0, entry.shape[0])
            kept.update(row.tobytes() for row in rows.codes)
    assert kept
    read = read_model(model)
    for node in read.nodes:
        if node.op_type == "MatMulNBits":
            blob = read.initializers[node.inputs[1]].array()
            codes = np.stack([blob & 15, blob >> 4], -1).reshape(blob.shape[0], -1)
            k = node.attributes["K"]
            assert all(row[:k].tobytes() in kept for row in codes), node.title


@pytest.fixture(scope="module")
def llama_f32(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An export that tests only read."""
    return export(checkpoint("llama", tmp_path_factory.mktemp("llama") / "hf", False), "fp32")


@pytest.mark.parametrize("block", [32, 128])
@pytest.mark.parametrize("symmetric", [True, False])
def test_onnxruntimes_own_quantiser(
    llama_f32: Path, tmp_path: Path, symmetric: bool, block: int
) -> None:
    """The f32 export, quantised afterwards."""
    import onnx
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

    model = onnx.load(llama_f32 / "model.onnx")
    quantiser = MatMulNBitsQuantizer(
        model, block_size=block, is_symmetric=symmetric, accuracy_level=1
    )
    quantiser.process()
    target = tmp_path / "quantised"
    target.mkdir()
    quantiser.model.save_model_to_file(str(target / "model.onnx"))
    archive = compiled(target)
    agree(logits(archive, prompt()), source_logits(target / "model.onnx", prompt()))
    check_codes(archive, target / "model.onnx")
