"""Small computed constants are stored; large ones, random ones and those of quantised weights are left alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import NodeProto, TensorProto, helper, numpy_helper
from support.hostile_onnx import write

from hearth.compiler.frontend.onnx.model import OnnxModel
from hearth.compiler.frontend.onnx.reader import read_model
from hearth.compiler.segments.fold import fold_constants


def read(nodes: list[NodeProto], outputs: list[str], folder: Path, **stored: object) -> OnnxModel:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n"])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in stored.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    return read_model(write(model, folder))


def node(op: str, inputs: str, output: str, **attributes: object) -> NodeProto:
    return helper.make_node(op, inputs.split(), [output], **attributes)


def test_a_chain_of_constants_becomes_one(tmp_path: Path) -> None:
    nodes = [node("Add", "a b", "c"), node("Sqrt", "c", "d"), node("Mul", "x d", "y")]
    model = fold_constants(read(nodes, ["y"], tmp_path, a=np.float32(9), b=np.float32(16)))
    assert [each.op_type for each in model.nodes] == ["Mul"]
    assert model.initializers["d"].array() == np.float32(5)
    assert [each.op_type for each in model.proto.graph.node] == ["Mul"]


def test_an_output_that_is_constant_stays_one(tmp_path: Path) -> None:
    nodes = [node("Add", "a a", "c"), node("Relu", "x", "y")]
    model = fold_constants(read(nodes, ["y", "c"], tmp_path, a=np.float32([1, 2])))
    assert [each.op_type for each in model.nodes] == ["Relu"]
    assert model.initializers["c"].array().tolist() == [2, 4]


@pytest.mark.parametrize(
    "nodes",
    [
        [node("ConstantOfShape", "s", "c"), node("Add", "x c", "y")],
        [node("Transpose", "w", "c"), node("Add", "x c", "y")],
        [node("RandomUniformLike", "a", "c"), node("Add", "x c", "y")],
        [node("QuantizeLinear", "x a", "q"), node("DequantizeLinear", "q a", "y")],
        [node("Relu", "x", "y")],
    ],
    ids=["large result", "large weight", "random", "quantised", "nothing"],
)
def test_what_stays(nodes: list[NodeProto], tmp_path: Path) -> None:
    stored = {"s": [1 << 20], "a": np.float32(0.1), "w": np.zeros((300, 100), np.float32)}
    model = read(nodes, ["y"], tmp_path, **stored)
    assert fold_constants(model) is model


def test_what_cannot_run_stays(tmp_path: Path) -> None:
    nodes = [node("Reshape", "a s", "c"), node("Add", "x c", "y")]
    model = read(nodes, ["y"], tmp_path, a=np.zeros(3, np.float32), s=np.array([2, 2]))
    assert fold_constants(model) is model


def test_one_result_of_several(tmp_path: Path) -> None:
    split = onnx.helper.make_node("Split", ["a"], ["c", "d"], axis=0)
    nodes = [split, node("Add", "x c", "e"), node("Mul", "e d", "y")]
    model = fold_constants(read(nodes, ["y"], tmp_path, a=np.float32([3, 4])))
    assert [each.op_type for each in model.nodes] == ["Add", "Mul"]
    assert model.initializers["d"].array().tolist() == [4]
