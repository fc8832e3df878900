"""Checkpoints that came quantised: codes, scales and zero points are kept, and the model is the one they stand for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.checkpoints import write_checkpoint
from support.prequantised import SHAPE, Packing, config_of, words_of, write_prequantised

from hearth.compiler.frontend import SourceModel, load
from hearth.compiler.frontend.coded import CodedWeight, unpack
from hearth.compiler.ir.evaluate import State, evaluate
from hearth.compiler.ir.ops import Constant, Linear
from hearth.compiler.ir.rewrite import all_outputs, order
from hearth.compiler.job import options
from hearth.compiler.pipeline import compile_model
from hearth.runtime.loader import load as load_archive
from hearth.schemas.commands import KVScheme, Layout
from hearth.schemas.errors import CheckpointError
from hearth.schemas.recipe import make_recipe

PACKINGS = {
    "gptq 4 bits, groups of 32": Packing(),
    "gptq 4 bits, groups of 16": Packing(group=16),
    "gptq 4 bits, one group": Packing(group=0, indexed=False),
    "gptq 8 bits": Packing(bits=8),
    "gptq 3 bits": Packing(bits=3),
    "gptq 2 bits": Packing(bits=2),
    "gptq_v2": Packing(offset=0),
    "awq": Packing("awq", offset=0),
}
IDS = [3, 1, 4, 1, 5, 9, 2, 6]


def _loaded(folder: Path) -> SourceModel:
    found = load(folder, context=32, kv=KVScheme.F32)
    assert isinstance(found, SourceModel)
    return found


def _weights(model: SourceModel) -> dict[str, Constant]:
    ops = order(all_outputs(model.graph))
    linears = (op.weight for op in ops if isinstance(op, Linear))
    return {each.name: each for each in linears if isinstance(each, Constant)}


@pytest.mark.parametrize("packing", PACKINGS.values(), ids=PACKINGS)
def test_codes_are_those_that_were_packed(packing: Packing, tmp_path: Path) -> None:
    floats = write_prequantised(tmp_path / "coded", packing)
    found = _weights(_loaded(tmp_path / "coded"))
    coded = {name: op.value for name, op in found.items() if isinstance(op.value, CodedWeight)}
    assert len(coded) == 7 * SHAPE["num_hidden_layers"]
    for name, value in coded.items():
        n, _ = value.shape
        rows = [value.grouped(start, min(start + 10, n)) for start in range(0, n, 10)]
        assert np.array_equal(np.concatenate([each.dequantise() for each in rows]), floats[name])
        assert all(each.codes.max() < 1 << packing.bits for each in rows)


@pytest.mark.parametrize("packing", PACKINGS.values(), ids=PACKINGS)
def test_the_model_is_the_one_its_codes_stand_for(packing: Packing, tmp_path: Path) -> None:
    floats = write_prequantised(tmp_path / "coded", packing)
    write_checkpoint(tmp_path / "plain", SHAPE, floats)
    coded, plain = (
        evaluate(_loaded(tmp_path / name).graph, "main", IDS, State.empty())[0]
        for name in ("coded", "plain")
    )
    assert np.array_equal(coded, plain)


@pytest.mark.parametrize("name", ["gptq 4 bits, groups of 32", "gptq 8 bits", "awq"])
def test_an_archive_keeps_the_codes(name: str, tmp_path: Path) -> None:
    floats = write_prequantised(tmp_path / "coded", PACKINGS[name])
    write_checkpoint(tmp_path / "plain", SHAPE, floats)
    logits = []
    for kind in ("coded", "plain"):
        recipe = make_recipe(
            {"source": str(tmp_path / kind), "output": str(tmp_path / f"{kind}.har"),
             "context": 32, "weights": "f32", "kv": "f32"}
        )  # fmt: skip
        compile_model(Path(recipe.source), Path(recipe.output), options(recipe))
        model = load_archive(Path(recipe.output))
        layouts = {each.layout for each in model.archive.weights_index.tensors}
        logits.append(model.session().prefill(IDS).copy())
        wanted = Layout.G8B16 if PACKINGS[name].bits == 8 else Layout.G4B16
        assert (wanted in layouts) == (kind == "coded")
    assert np.abs(logits[0] - logits[1]).max() <= 1e-4 * np.abs(logits[1]).max()


@given(st.sampled_from([2, 3, 4, 8]), st.integers(1, 5), st.integers(0, 2**32 - 1))
def test_unpacking_is_the_inverse_of_packing(bits: int, sets: int, seed: int) -> None:
    values = np.random.default_rng(seed).integers(0, 1 << bits, (3, 32 * sets))
    words = np.array([words_of(row.tolist(), bits) for row in values], np.uint32)
    assert np.array_equal(unpack(words, bits), values)


REFUSED: dict[str, tuple[dict[str, Any], str, str]] = {
    "words of another shape": (
        {"qweight": np.zeros((5, 64), np.int32)},
        "checkpoint.coded_weight",
        "qweight has shape [5, 64]",
    ),
    "scales of another shape": (
        {"scales": np.ones((3, 63), np.float16)},
        "checkpoint.coded_weight",
        "scales have shape",
    ),
    "groups of 24": (
        {"scales": np.ones((4, 64), np.float16), "qzeros": np.zeros((4, 8), np.int32)},
        "checkpoint.coded_weight",
        "scales have shape",
    ),
    "zero points of another shape": (
        {"qzeros": np.zeros((3, 9), np.int32)},
        "checkpoint.coded_weight",
        "qzeros have shape",
    ),
    "words of 16 bits": (
        {"qweight": np.zeros((12, 64), np.int16)},
        "checkpoint.dtype_unsupported",
        "qweight",
    ),
    "act-order": (
        {"g_idx": np.arange(96, dtype=np.int32)[::-1] // 32},
        "checkpoint.group_order",
        "desc_act",
    ),
    "a short g_idx": ({"g_idx": np.zeros(95, np.int32)}, "checkpoint.coded_weight", "g_idx"),
}


@pytest.mark.parametrize("case", REFUSED.values(), ids=REFUSED)
def test_what_does_not_fit_is_refused_by_name(
    case: tuple[dict[str, Any], str, str], tmp_path: Path
) -> None:
    replaced, code, said = case
    arrays = {ending: np.ascontiguousarray(tensor) for ending, tensor in replaced.items()}
    write_prequantised(tmp_path / "coded", Packing(), **arrays)
    with pytest.raises(CheckpointError) as caught:
        _loaded(tmp_path / "coded")
    assert caught.value.code == code
    assert said in caught.value.found
    assert "down_proj" in caught.value.found


UNSUPPORTED: dict[str, dict[str, Any]] = {
    "another method": {"quant_method": "bitsandbytes"},
    "no method": {"quant_method": None},
    "another format of gptq": {"checkpoint_format": "marlin"},
    "words of another size": {"pack_dtype": "int16"},
    "another form of awq": {"quant_method": "awq", "version": "gemv"},
}


@pytest.mark.parametrize("changes", UNSUPPORTED.values(), ids=UNSUPPORTED)
def test_what_is_not_known_is_refused_by_name(changes: dict[str, Any], tmp_path: Path) -> None:
    config = config_of(Packing())
    config["quantization_config"] |= changes
    write_prequantised(tmp_path / "coded", Packing(), config)
    with pytest.raises(CheckpointError) as caught:
        _loaded(tmp_path / "coded")
    assert caught.value.code == "config.unsupported"


def test_a_missing_part_is_named(tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    write_prequantised(tmp_path / "coded", Packing())
    path = tmp_path / "coded" / "model.safetensors"
    tensors = load_file(path)
    del tensors["model.layers.1.mlp.up_proj.scales"]
    save_file(tensors, path)
    with pytest.raises(CheckpointError) as caught:
        _loaded(tmp_path / "coded")
    assert caught.value.code == "checkpoint.tensor_missing"
    assert "up_proj.scales" in caught.value.found
