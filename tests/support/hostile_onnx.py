"""Small ONNX models to break: each function makes one, tests change what they want wrong."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

LARGE = 2048  # f32 elements: 8 KiB, left in the file by the reader


def small(nodes: Sequence[onnx.NodeProto] | None = None, **tensors: np.ndarray) -> onnx.ModelProto:
    """y = x * w + w over f32[2048], or other nodes over the same values."""
    stored = {"w": np.linspace(-1, 1, LARGE, dtype=np.float32), **tensors}
    default = [
        helper.make_node("Mul", ["x", "w"], ["a"]),
        helper.make_node("Add", ["a", "w"], ["y"]),
    ]
    graph = helper.make_graph(
        default if nodes is None else list(nodes),
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [LARGE])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in stored.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def write(model: onnx.ModelProto | bytes, folder: Path, name: str = "m.onnx") -> Path:
    """The model as a file."""
    path = folder / name
    path.write_bytes(model if isinstance(model, bytes) else model.SerializeToString())
    return path


def external(model: onnx.ModelProto, **entries: object) -> onnx.ModelProto:
    """The tensor w moved out of the model, to the place that the entries say."""
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in entries.items():
        tensor.external_data.add(key=key, value=str(value))
    return model


def functions(levels: int, calls: int) -> onnx.ModelProto:
    """A model whose function f0 calls f1 several times, which calls f2, ...: calls^levels nodes once inlined."""
    model = small([helper.make_node("f0", ["x"], ["y"], domain="local")])
    model.opset_import.append(helper.make_opsetid("local", 1))
    imports = list(model.opset_import)
    for level in range(levels):
        inner = f"f{level + 1}" if level + 1 < levels else "Relu"
        domain = "local" if level + 1 < levels else ""
        names = ["i", *(f"v{at}" for at in range(calls - 1)), "o"]
        nodes = [
            helper.make_node(inner, [names[at]], [names[at + 1]], domain=domain)
            for at in range(calls)
        ]
        model.functions.append(
            helper.make_function("local", f"f{level}", ["i"], ["o"], nodes, imports)
        )
    return model


def nested(depth: int) -> onnx.ModelProto:
    """An If inside an If inside an If."""
    cond = helper.make_node("Constant", [], ["c"], value=numpy_helper.from_array(np.array(True)))
    leaf = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["r"])], "leaf", [],
        [helper.make_tensor_value_info("r", TensorProto.FLOAT, None)],
    )  # fmt: skip
    graph = leaf
    for _ in range(depth):
        node = helper.make_node("If", ["c"], ["r"], then_branch=graph, else_branch=leaf)
        graph = helper.make_graph(
            [node], "level", [], [helper.make_tensor_value_info("r", TensorProto.FLOAT, None)]
        )
    return small([cond, helper.make_node("If", ["c"], ["y"], then_branch=graph, else_branch=leaf)])
