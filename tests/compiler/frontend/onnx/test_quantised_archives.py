"""Quantised graphs through the whole compiler: the archive holds the source's codes and gives its logits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support.compiling import wanted
from support.contrib import FFN, HIDDEN, IDS, VOCAB, Writer, decoder
from support.data import real
from support.nbits import Form, Weight, product
from support.raised import RELATIVE, Source

from hearth.compiler.pipeline import compile_model
from hearth.runtime import load
from hearth.runtime.archive.reader import open_archive
from hearth.runtime.archive.rows import StoredRows, packed_rows
from hearth.schemas.commands import Layout

FLOAT = wanted(weights="f32", kv="f32", activations="none")


def agree(archive: Path, model: Path, ids: np.ndarray) -> None:
    """Logits after a prefill, after each of two more tokens, and of greedy tokens from there on."""
    source, session = Source.open(model), load(archive, threads=2).session()
    parts = [ids[:-2], ids[-2:-1], ids[-1:]]
    for _ in range(12):
        part = parts.pop(0)
        want = source.feed(part)[-1]
        got = session.prefill(part) if len(part) > 1 else session.decode(int(part[0]))
        assert np.abs(got - want).max() <= RELATIVE * np.abs(want).max()
        assert got.argmax() == want.argmax()
        parts = parts or [np.array([got.argmax()])]


def unpacked(archive: Path) -> dict[str, StoredRows]:
    """The grouped weights that lie in an archive, by name."""
    found: dict[str, StoredRows] = {}
    opened = open_archive(archive)
    data = np.frombuffer(opened.weights(), np.uint8)
    for entry in opened.weights_index.tensors:
        if entry.layout in (Layout.G4B16, Layout.G8B16):
            part = data[entry.offset : entry.offset + entry.nbytes]
            found[entry.name] = packed_rows(part, entry, 0, entry.shape[0])
    return found


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("block", [16, 32, 128])
def test_codes_scales_and_zero_points_are_kept(tmp_path: Path, block: int, bits: int) -> None:
    """Gate and up become one paired weight, the table and the head share one; every row is as the source has it."""
    form = Form(bits, block, "packed")
    sizes = {
        "gate": (FFN, HIDDEN),
        "up": (FFN, HIDDEN),
        "down": (HIDDEN, FFN),
        "head": (VOCAB, HIDDEN),
    }
    weights = {
        name: Weight.draw(form, *size, seed=i) for i, (name, size) in enumerate(sizes.items())
    }

    def mlp(w: Writer, x: str) -> str:
        gate, up = (product(w, x, weights[name], form, accuracy_level=1) for name in ("gate", "up"))
        gated = w.op("Mul", w.op("Mul", gate, w.op("Sigmoid", gate)), up)
        return product(w, gated, weights["down"], form, accuracy_level=1)

    def logits(w: Writer, x: str) -> str:
        return product(w, x, weights["head"], form, accuracy_level=1)

    model, archive = decoder(tmp_path, mlp=mlp, logits=logits), tmp_path / "m.har"
    compile_model(model, archive, FLOAT)
    agree(archive, model, IDS)
    kept = {rows.codes.shape: rows for rows in unpacked(archive).values()}
    assert len(kept) == 3
    gate_up = [weights["gate"], weights["up"]]
    for wanted_, rows in (
        (gate_up, kept[2 * FFN, HIDDEN]),
        ([weights["down"]], kept[HIDDEN, FFN]),
        ([weights["head"]], kept[VOCAB, HIDDEN]),
    ):
        assert np.array_equal(rows.codes, np.concatenate([each.codes for each in wanted_]))
        assert np.array_equal(rows.scales, np.concatenate([each.scales for each in wanted_]))
        assert np.array_equal(rows.zeros, np.concatenate([each.zeros for each in wanted_]))


def test_int8_weights_take_dynamic_activations(tmp_path: Path) -> None:
    """Symmetric codes per channel fit the integer kernels."""

    def mlp(w: Writer, x: str) -> str:
        codes = w.tensor(w.rng.integers(-127, 128, (HIDDEN, HIDDEN)).astype(np.int8))
        scales = w.tensor((w.rng.uniform(0.5, 1.5, HIDDEN) / 800).astype(np.float32))
        return w.op("MatMul", x, w.op("DequantizeLinear", codes, scales, axis=1))

    model, archive = decoder(tmp_path, mlp=mlp), tmp_path / "m.har"
    compile_model(model, archive, wanted(weights="int8", kv="f32", activations="dynamic"))
    layouts = {entry.layout for entry in open_archive(archive).weights_index.tensors}
    assert Layout.Q8B16 in layouts and not layouts & {Layout.G8B16, Layout.G4B16}
    compile_model(model, tmp_path / "float.har", FLOAT)
    agree(tmp_path / "float.har", model, IDS)


def test_onnxruntime_genais_tiny_gpt2(tmp_path: Path) -> None:
    """Attention, EmbedLayerNormalization, SkipLayerNormalization and FastGelu fused: no ONNX part is left."""
    model = real("onnx", "ort-genai-tiny", "tiny-random-gpt2-fp32", "past.onnx")
    archive = tmp_path / "m.har"
    compile_model(model, archive, FLOAT)
    agree(archive, model, np.random.default_rng(3).integers(0, 1000, 20))
    assert not [name for name in open_archive(archive).entries if name.startswith("onnx/")]
