"""A merged decoder: `If` over an input; the branch with a past is what is raised."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper
from support.contrib import IDS, decoder
from support.raised import compare, info

from hearth.compiler.frontend import load
from hearth.compiler.frontend.onnx import GraphSource
from hearth.compiler.frontend.onnx.branches import with_past
from hearth.compiler.frontend.onnx.reader import read_model
from hearth.compiler.frontend.source import SourceModel
from hearth.schemas.commands import KVScheme


def merged(source: Path, path: Path, condition: str = "use_cache_branch") -> Path:
    """The decoder as one branch; the other gives zeros."""
    model = onnx.load(source)
    graph = model.graph
    outputs = [each.name for each in graph.output]
    renamed = {name: f"{name}/inner" for name in outputs}
    for node in graph.node:
        node.output[:] = [renamed.get(name, name) for name in node.output]
        node.input[:] = [renamed.get(name, name) for name in node.input]
    inner = [onnx.ValueInfoProto(name=name) for name in renamed.values()]
    nodes = [*graph.node]
    large, small = graph.initializer[:-3], graph.initializer[-3:]
    then = helper.make_graph(nodes, "with_past", [], inner, small)
    shape = onnx.numpy_helper.from_array(np.array([1, 1, 1, 1]), "shape")
    zeros = [
        helper.make_node("ConstantOfShape", ["shape"], [f"zero{i}"]) for i in range(len(outputs))
    ]
    other = helper.make_graph(
        zeros,
        "without",
        [],
        [info(f"zero{i}", TensorProto.FLOAT, [1] * 4) for i in range(len(outputs))],
        [shape],
    )
    switch = info(condition, TensorProto.BOOL, [1])
    node = helper.make_node("If", [condition], outputs, then_branch=then, else_branch=other)
    whole = helper.make_graph([node], "merged", [*graph.input, switch], graph.output, large)
    onnx.save(helper.make_model(whole, opset_imports=model.opset_import, ir_version=10), path)
    return path


def test_the_branch_with_a_past_is_raised(tmp_path: Path) -> None:
    plain = decoder(tmp_path)
    path = merged(plain, tmp_path / "decoder_model_merged.onnx")
    model = load(path, context=64, kv=KVScheme.F32)
    assert isinstance(model, SourceModel)
    compare(model.graph, plain, IDS)


def test_other_models_stay_as_they_are(tmp_path: Path) -> None:
    model = read_model(decoder(tmp_path))
    assert with_past(model) is model


def test_a_condition_that_is_computed_stays(tmp_path: Path) -> None:
    path = merged(decoder(tmp_path), tmp_path / "merged.onnx")
    model = onnx.load(path)
    model.graph.node.insert(0, helper.make_node("Not", ["use_cache_branch"], ["changed"]))
    model.graph.node[1].input[:] = ["changed"]
    onnx.save(model, path)
    assert isinstance(load(path, context=64, kv=KVScheme.F32), GraphSource)
