"""DequantizeLinear of weights: per tensor, per channel and in blocks, either way round; codes are the source's."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper
from support.contrib import HIDDEN, IDS, VOCAB, Writer, decoder
from support.raised import compare, raised, reasons

from hearth.compiler.ir.ops import Embedding, Linear
from hearth.compiler.ir.rewrite import all_outputs, order
from hearth.compiler.ir.tensors import GroupedSource, QuantisedSource

KINDS = {
    "int8": (TensorProto.INT8, -127, 128),
    "int8_with_-128": (TensorProto.INT8, -128, 128),
    "uint8": (TensorProto.UINT8, 0, 256),
    "int4": (TensorProto.INT4, -8, 8),
    "uint4": (TensorProto.UINT4, 0, 16),
}
SHIFT = {TensorProto.INT8: 128, TensorProto.INT4: 8}


@dataclass(frozen=True)
class Form:
    """A weight's storage; `block` 0: one scale per channel, or one in all."""

    kind: str
    block: int = 0
    per_tensor: bool = False
    zeros: bool = False
    turned: bool = False  # stored [N, K] and transposed in the graph


FORMS = [
    *(Form(kind, zeros=zeros) for kind in KINDS for zeros in (False, True)),
    *(Form(kind, per_tensor=True, zeros=True) for kind in ("int8", "uint8")),
    *(
        Form(kind, block=16, zeros=zeros)
        for kind in ("int4", "uint4", "int8")
        for zeros in (False, True)
    ),
    Form("int8", turned=True),
    Form("int4", block=32, zeros=True, turned=True),
]


def stored(w: Writer, form: Form, k: int, n: int) -> tuple[str, np.ndarray]:
    """(the name of the dequantised [K, N], its codes [N, K] as unsigned)."""
    kind, low, high = KINDS[form.kind]
    rng = np.random.default_rng(k + n)
    codes = rng.integers(low, high, (k, n))
    codes[0, 0] = low
    axis = 0 if form.block else 1
    shape = () if form.per_tensor else (k // form.block, n) if form.block else (n,)
    scales = rng.uniform(0.5, 1.5, shape) / (high - low) / k**0.5 * 2
    zeros = rng.integers(low // 2, high // 2, shape)
    if form.turned:
        stored_codes, scales, zeros = codes.T, scales.T, zeros.T
        axis = 1 - axis
    else:
        stored_codes = codes

    def put(values: np.ndarray) -> str:
        flat = np.asarray(values).reshape(-1).tolist()
        return w.tensor(helper.make_tensor("t", kind, np.shape(values), flat))

    inputs = [put(stored_codes), w.tensor(np.asarray(scales, np.float32), "scales")]
    inputs += [put(zeros)] if form.zeros else []
    more = {"block_size": form.block} if form.block else {}
    name = w.op("DequantizeLinear", *inputs, axis=axis, **more)
    shift = SHIFT.get(kind, 0)
    return (w.op("Transpose", name, perm=[1, 0]) if form.turned else name), codes.T + shift


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_weight(tmp_path: Path, form: Form) -> None:
    kept: list[np.ndarray] = []

    def mlp(w: Writer, x: str) -> str:
        name, codes = stored(w, form, HIDDEN, 48)
        kept.append(codes)
        return w.product(w.op("Relu", w.op("MatMul", x, name)), 48, HIDDEN)

    model = decoder(tmp_path, mlp=mlp)
    graph = raised(model).graph
    compare(graph, model, IDS)
    linears = [op for op in order(all_outputs(graph)) if isinstance(op, Linear)]
    coded = [
        op.weight.value
        for op in linears
        if isinstance(op.weight.value, GroupedSource | QuantisedSource)
    ]
    (value,) = coded
    symmetric = form.kind == "int8" and not form.zeros and not form.block
    assert isinstance(value, QuantisedSource) == symmetric
    if isinstance(value, QuantisedSource):
        assert np.array_equal(value.quantised(0, 48).codes.astype(int) + 128, kept[0])
    else:
        assert np.array_equal(value.grouped(0, 48).codes, kept[0])
        assert np.array_equal(value.grouped(7, 9).codes, kept[0][7:9])


def test_a_table(tmp_path: Path) -> None:
    def embedding(w: Writer, ids: str) -> str:
        rng = np.random.default_rng(0)
        codes = w.tensor(rng.integers(-127, 128, (VOCAB, HIDDEN)).astype(np.int8))
        scales = w.tensor((rng.uniform(0.5, 1.5, VOCAB) / 100).astype(np.float32))
        return w.op("Gather", w.op("DequantizeLinear", codes, scales, axis=0), ids)

    model = decoder(tmp_path, embedding=embedding)
    graph = raised(model).graph
    compare(graph, model, IDS)
    (op,) = [op for op in order(all_outputs(graph)) if isinstance(op, Embedding)]
    assert isinstance(op.table.value, QuantisedSource)


def test_scales_along_k_are_refused(tmp_path: Path) -> None:
    def mlp(w: Writer, x: str) -> str:
        codes = w.tensor(np.ones((HIDDEN, HIDDEN), np.int8))
        weight = w.op("DequantizeLinear", codes, w.gain(HIDDEN), axis=0)
        return w.op("MatMul", x, weight)

    assert "scales along K" in reasons(decoder(tmp_path, mlp=mlp))


def test_odd_blocks_are_refused(tmp_path: Path) -> None:
    def mlp(w: Writer, x: str) -> str:
        codes = w.tensor(np.ones((HIDDEN, HIDDEN), np.int8))
        scales = w.tensor(np.ones((HIDDEN // 8, HIDDEN), np.float32))
        return w.op("MatMul", x, w.op("DequantizeLinear", codes, scales, axis=0, block_size=8))

    assert "blocks of 8" in reasons(decoder(tmp_path, mlp=mlp))


def test_zero_points_of_another_shape_are_refused(tmp_path: Path) -> None:
    def mlp(w: Writer, x: str) -> str:
        codes = w.tensor(np.ones((HIDDEN, HIDDEN), np.uint8))
        scales = w.tensor(np.ones((HIDDEN // 16, HIDDEN), np.float32))
        zeros = w.tensor(np.ones(HIDDEN // 16 * HIDDEN, np.uint8))
        weight = w.op("DequantizeLinear", codes, scales, zeros, axis=0, block_size=16)
        return w.op("MatMul", x, weight)

    assert "does not fit" in reasons(decoder(tmp_path, mlp=mlp))
