"""What `hearth inspect` says of a graph: ports, where each operator runs, and why it is not native."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from support.compiling import wanted
from support.hostile_onnx import write
from support.onnx_graphs import compiled, compiled_with_islands

from hearth.runtime.archive import Archive
from hearth.runtime.commands.inspect_graph import SHOWN, describe_graph, graph_text


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """softmax(x @ w)."""
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["a"]), helper.make_node("Softmax", ["a"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 40])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 40])],
        [numpy_helper.from_array(np.eye(40, dtype=np.float32), "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    return write(model, tmp_path_factory.mktemp("inspect"))


def archive(source: Path, tmp_path: Path) -> Archive:
    return compiled_with_islands(source, tmp_path / "m.har", wanted(weights="f32"), 0).archive


def test_tells_native_from_onnx(source: Path, tmp_path: Path) -> None:
    facts = describe_graph(archive(source, tmp_path))
    assert facts["inputs"] == {"x": "tensor(float)[n, 40]"}
    assert [(step["run"], step["engine"]) for step in facts["steps"]] == [
        ("island/0", "native"), ("onnx/0", "onnxruntime"),
    ]  # fmt: skip
    text = graph_text(facts)
    assert "step 0: island/0 in native: 1 operators" in text
    assert "1 Softmax  no native operator computes it row by row" in text


def test_tells_why_the_whole_is_not_native(source: Path, tmp_path: Path) -> None:
    made = compiled(source, tmp_path / "m.har", wanted(weights="f32"))
    facts = describe_graph(made.archive)
    assert facts["reasons"]
    text = graph_text(facts)
    assert text.splitlines()[2] == "not native as a whole:"
    assert "1 MatMul   native would not pay: its weights would take no fewer bytes" in text


def test_long_lists_are_cut() -> None:
    many = [{"op": f"Op{at}", "count": 1, "reason": "why"} for at in range(SHOWN + 5)]
    step = {"run": "onnx/0", "engine": "onnxruntime", "operators": many}
    text = graph_text({"inputs": {}, "outputs": {}, "reasons": [], "steps": [step]})
    assert text.endswith("  and 5 more")
