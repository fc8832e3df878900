"""Models whose activations are quantised: raised, they equal the float model with the dequantised weights."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_dynamic,
    quantize_static,
)
from support.contrib import HEAD_DIM, HIDDEN, IDS, KV_HEADS, Writer, decoder
from support.raised import compare, raised

from hearth.compiler.frontend.onnx.reader import read_model
from hearth.compiler.frontend.onnx.unquantised import NOTE, without_activation_quantisation
from hearth.compiler.ir.graph import Graph
from hearth.compiler.ir.ops import Embedding, Linear
from hearth.compiler.ir.rewrite import all_outputs, order
from hearth.compiler.ir.tensors import GroupedSource, QuantisedSource

FLOATS = {
    "DefaultTensorType": onnx.TensorProto.FLOAT
}  # its shape inference knows no fused operator


def dequantised(source: Path, quantised: Path) -> onnx.ModelProto:
    """The source with each weight as the codes, scales and zero points of the quantised model say."""
    model = onnx.load(source)
    stored = {each.name: each for each in onnx.load(quantised).graph.initializer}
    for tensor in model.graph.initializer:
        codes = stored.get(f"{tensor.name}_quantized")
        if codes is not None:
            scale, zero = (stored[f"{tensor.name}_{end}"] for end in ("scale", "zero_point"))
            values = dequantise(*map(numpy_helper.to_array, (codes, scale, zero)))
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    return model


def dequantise(codes: NDArray[Any], scale: NDArray[Any], zero: NDArray[Any]) -> NDArray[np.float32]:
    return ((codes.astype(np.int32) - zero.astype(np.int32)) * scale).astype(np.float32)


def coded(graph: Graph) -> list[type]:
    """The kinds of quantised weights that the graph reads."""
    ops = order(all_outputs(graph))
    weights = [op.weight for op in ops if isinstance(op, Linear)]
    weights += [op.table for op in ops if isinstance(op, Embedding)]
    values = [weight.value for weight in weights]
    return [type(value) for value in values if isinstance(value, GroupedSource | QuantisedSource)]


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("weight_type", [QuantType.QInt8, QuantType.QUInt8])
def test_dynamically_quantised(tmp_path: Path, weight_type: QuantType, per_channel: bool) -> None:
    source, model = decoder(tmp_path), tmp_path / "quantised.onnx"
    quantize_dynamic(
        source,
        model,
        weight_type=weight_type,
        per_channel=per_channel,
        op_types_to_quantize=["MatMul", "Gather"],
        extra_options=FLOATS,
    )
    assert any(node.op_type == "MatMulInteger" for node in onnx.load(model).graph.node)
    found = raised(model)
    compare(found.graph, dequantised(source, model), IDS)
    assert len(coded(found.graph)) == 7
    assert NOTE in found.notes


class Samples(CalibrationDataReader):
    """Prompts of the test's ids with an empty past."""

    def __init__(self) -> None:
        self.feeds: Iterator[dict[str, NDArray[Any]]] = iter([self.feed(n) for n in (14, 9, 5)])

    @staticmethod
    def feed(count: int) -> dict[str, NDArray[Any]]:
        past = np.zeros((1, KV_HEADS, 0, HEAD_DIM), np.float32)
        return {
            "input_ids": IDS[None, :count],
            "attention_mask": np.ones((1, count), np.int64),
            "past_0.key": past,
            "past_0.value": past,
        }

    def get_next(self) -> dict[str, NDArray[Any]] | None:
        return next(self.feeds, None)


@pytest.mark.parametrize("per_channel", [False, True])
def test_statically_quantised(tmp_path: Path, per_channel: bool) -> None:
    source, model = decoder(tmp_path), tmp_path / "quantised.onnx"
    quantize_static(
        source, model, Samples(), quant_format=QuantFormat.QDQ, per_channel=per_channel,
        op_types_to_quantize=["MatMul", "Gather", "Add", "Mul"], weight_type=QuantType.QInt8,
    )  # fmt: skip
    assert any(node.op_type == "QuantizeLinear" for node in onnx.load(model).graph.node)
    found = raised(model)
    compare(found.graph, dequantised(source, model), IDS)
    assert len(coded(found.graph)) >= 6
    assert NOTE in found.notes


def fused(w: Writer, x: str, kind: str) -> str:
    """A product of a quantised weight in one node, with a bias."""
    codes = w.tensor(w.rng.integers(-127, 128, (HIDDEN, HIDDEN)).astype(np.int8), "codes")
    scale = w.tensor((w.rng.uniform(0.5, 1.5, HIDDEN) / 800).astype(np.float32), "scale")
    zero = w.tensor(w.rng.integers(-3, 4, HIDDEN).astype(np.int8), "zero")
    bias = w.bias(HIDDEN)
    match kind:
        case "DynamicQuantizeMatMul":
            return w.fused(kind, x, codes, scale, zero, bias)
        case "MatMulIntegerToFloat":
            q = w.op("DynamicQuantizeLinear", x, outputs=3)
            return w.fused(kind, q, codes, f"{q}.1", scale, f"{q}.2", zero, bias)
    table = w.op("DequantizeLinear", codes, scale, zero, axis=1)
    return w.op("Add", w.op("MatMul", x, table), bias)


@pytest.mark.parametrize("kind", ["DynamicQuantizeMatMul", "MatMulIntegerToFloat"])
def test_fused_products(tmp_path: Path, kind: str) -> None:
    model = decoder(tmp_path, mlp=lambda w, x: fused(w, x, kind))
    (tmp_path / "float").mkdir()
    plain = decoder(tmp_path / "float", mlp=lambda w, x: fused(w, x, "float"))
    found = raised(model)
    compare(found.graph, plain, IDS)
    assert coded(found.graph)
    assert NOTE in found.notes


def test_the_rewritten_model_is_valid(tmp_path: Path) -> None:
    source, model = decoder(tmp_path), tmp_path / "quantised.onnx"
    quantize_dynamic(source, model, op_types_to_quantize=["MatMul", "Gather"], extra_options=FLOATS)
    rewritten, _ = without_activation_quantisation(read_model(model))
    kinds = {node.op_type for node in rewritten.nodes}
    assert not kinds & {"MatMulInteger", "DynamicQuantizeLinear", "QuantizeLinear"}
    made: set[str] = {each.name for each in rewritten.inputs} | set(rewritten.initializers) | {""}
    for node in rewritten.nodes:
        assert made.issuperset(node.inputs), node.title
        made.update(node.outputs)
    assert [list(n.outputs) for n in rewritten.nodes] == [
        list(n.output) for n in rewritten.proto.graph.node
    ]
    assert made.issuperset(each.name for each in rewritten.outputs)


def test_a_float_model_stays_itself(tmp_path: Path) -> None:
    model = read_model(decoder(tmp_path))
    assert without_activation_quantisation(model) == (model, ())
