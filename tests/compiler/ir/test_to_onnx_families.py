"""GPT-2 and BERT at every stage, from the frontend to the last pass, op by op in onnxruntime."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from support import bert, gpt2
from support.agreement import Agreement
from support.checkpoints import write_checkpoint

from hearth.compiler.frontend import load
from hearth.compiler.ir.evaluate import State
from hearth.compiler.ir.graph import Graph
from hearth.compiler.ir.to_onnx import to_onnx
from hearth.compiler.passes import FLOAT_PASSES, QUANTISED_PASSES, run_passes
from hearth.compiler.quantize import make_scheme, quantize
from hearth.compiler.quantize.schemes import F16, INT4_G32, INT8, Scheme
from hearth.schemas.commands import KVScheme

SCHEMES = {
    "f16": make_scheme(F16, "none", KVScheme.F16),
    "int8": make_scheme(INT8, "dynamic", KVScheme.INT8),
    "int4": make_scheme(INT4_G32, "dynamic", KVScheme.F32),
    "int4, f32 inputs": make_scheme(INT4_G32, "none", KVScheme.INT8),
}
IDS = np.random.default_rng(3).integers(0, 53, 17)
TYPES = np.array([0] * 9 + [1] * 8)


def stages(directory: Path, scheme: Scheme) -> list[Graph]:
    """Each distinct graph."""
    found = [load(directory, context=None, kv=scheme.kv).graph]

    def observe(_: str, graph: Graph) -> None:
        if graph is not found[-1]:
            found.append(graph)

    fused = run_passes(FLOAT_PASSES, found[0], observe=observe)
    coded = quantize(fused, scheme)
    observe("quantise", coded)
    run_passes(QUANTISED_PASSES, coded, observe=observe)
    return found


@pytest.mark.parametrize("name", SCHEMES)
def test_gpt2(name: str, tmp_path: Path) -> None:
    write_checkpoint(tmp_path, gpt2.GPT2, gpt2.random_tensors(gpt2.GPT2))
    for graph in stages(tmp_path, SCHEMES[name]):
        checked = Agreement(graph, next(iter(graph.entries)), logit_rows=2)
        state = checked.check(IDS[:9], State.empty())
        state = checked.check(IDS[9:14], state)
        if "decode" in graph.entries:
            Agreement(graph, "decode", constants=checked.constants).check(IDS[14:15], state)


@pytest.mark.parametrize("name", SCHEMES)
@pytest.mark.parametrize("family", ["BERT", "ROBERTA", "DISTILBERT"])
def test_encoders(family: str, name: str, tmp_path: Path) -> None:
    config = getattr(bert, family)
    write_checkpoint(tmp_path, config, bert.random_tensors(config))
    ports = {"types": TYPES} if family == "BERT" else {}
    for graph in stages(tmp_path, SCHEMES[name]):
        for entry in ("main", "hidden"):
            Agreement(graph, entry).check(IDS, State.empty(), **ports)


def test_the_interface_of_an_encoder(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, bert.BERT, bert.random_tensors(bert.BERT))
    graph = run_passes(FLOAT_PASSES, load(tmp_path, context=None, kv=KVScheme.F32).graph)
    model = to_onnx(graph, "main")
    onnx.checker.check_model(model, full_check=True)
    names = [given.name for given in model.graph.input if not given.name.startswith("past.")]
    assert sorted(names) == ["position", "tokens", "types"]
    assert model.graph.output[0].name == "embedding"
    kinds = {node.op_type for node in model.graph.node}
    assert {"LayerNormalization", "Attention", "Gelu", "ReduceMean", "Gemm"} <= kinds
