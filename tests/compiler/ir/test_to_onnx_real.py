"""Real checkpoints (HEARTH_DATA): every stage from the frontend to the last pass, in onnxruntime."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from support.agreement import Agreement
from support.data import checkpoint
from support.onnx_run import OnnxState, run_onnx, session

from hearth.compiler.frontend import load
from hearth.compiler.ir.evaluate import Constants, State, evaluate
from hearth.compiler.ir.graph import Graph
from hearth.compiler.ir.to_onnx import save_onnx
from hearth.compiler.passes import FLOAT_PASSES, QUANTISED_PASSES, run_passes
from hearth.compiler.quantize import make_scheme, quantize
from hearth.compiler.quantize.schemes import F16, INT4_G32, INT8
from hearth.schemas.commands import KVScheme

MODELS = ("stories260K", "stories3M")
SCHEMES = {
    "f16": make_scheme(F16, "none", KVScheme.F16),
    "int8": make_scheme(INT8, "dynamic", KVScheme.INT8),
    "int4": make_scheme(INT4_G32, "dynamic", KVScheme.INT8),
}
FLOAT_STAGES = ("frontend", *(each.name for each in FLOAT_PASSES))
CODED_STAGES = ("quantise", *(each.name for each in QUANTISED_PASSES))
STAGES = (
    *(("f32", stage) for stage in FLOAT_STAGES),
    *((name, stage) for name in SCHEMES for stage in CODED_STAGES),
)


@cache
def stages(name: str) -> dict[tuple[str, str], Graph]:
    """Each stage's graph; a pass that changed nothing shows the graph of the stage before."""
    found: dict[tuple[str, str], Graph] = {}
    for scheme_name, kv in (("f32", KVScheme.F32), *((s, SCHEMES[s].kv) for s in SCHEMES)):
        graph = load(checkpoint(name), context=64, kv=kv).graph
        if scheme_name == "f32":
            found["f32", "frontend"] = graph
            run_passes(FLOAT_PASSES, graph, observe=lambda n, g: found.update({("f32", n): g}))
            continue
        coded = quantize(run_passes(FLOAT_PASSES, graph), SCHEMES[scheme_name])
        found[scheme_name, "quantise"] = coded
        for each in QUANTISED_PASSES:
            coded = each.run(coded)
            found[scheme_name, each.name] = coded
    return found


def reference(name: str) -> dict[str, list[int]]:
    """The first case: prompt_ids, and greedy_ids that begin with them."""
    cases = json.loads((checkpoint(name) / "reference_greedy.json").read_text())["cases"]
    return cases[0]


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(("scheme", "stage"), STAGES)
def test_every_stage_agrees(name: str, scheme: str, stage: str) -> None:
    graph = stages(name)[scheme, stage]
    earlier = STAGES[: STAGES.index((scheme, stage))]
    if any(stages(name)[before] is graph for before in earlier):
        return  # the pass changed nothing: this very graph was checked
    ids = reference(name)["greedy_ids"]
    checked = Agreement(graph, next(iter(graph.entries)), logit_rows=2)
    state = checked.check(ids[:7], State.empty())
    state = checked.check(ids[7:10], state)
    if "decode" in graph.entries:
        Agreement(graph, "decode", constants=checked.constants).check(ids[10:11], state)


@pytest.mark.parametrize("name", MODELS)
def test_the_text_is_the_reference(name: str, tmp_path: Path) -> None:
    """Saved models as a user runs them, all optimisations on, and `evaluate`: the same greedy tokens.

    A divergence counts as none where the two best logits lie within 1e-4; the text ends there.
    """
    graph = run_passes(FLOAT_PASSES, load(checkpoint(name), context=64, kv=KVScheme.F32).graph)
    for entry in graph.entries:
        save_onnx(graph, entry, tmp_path / entry)
    engines = {entry: session(str(tmp_path / entry)) for entry in graph.entries}
    case, kept = reference(name), Constants(keep=True)
    call, entry = case["prompt_ids"], "prefill"
    state, past = State.empty(), OnnxState()
    for expected in case["greedy_ids"][len(call) :][:40]:
        logits, state = evaluate(graph, entry, call, state, constants=kept)
        results, past = run_onnx(engines[entry], call, past)
        second, best = np.sort(logits[-1])[-2:]
        if best - second < 1e-4:
            return
        assert int(logits[-1].argmax()) == int(results["logits"][-1].argmax()) == expected
        call, entry = [expected], "decode"
