"""Compile a checkpoint in a test, and what the same graph means to the evaluator."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hearth.compiler import frontend
from hearth.compiler.ir.evaluate import evaluate
from hearth.compiler.ir.graph import Graph
from hearth.compiler.ir.state import State
from hearth.compiler.job import options
from hearth.compiler.passes import FLOAT_PASSES, QUANTISED_PASSES, run_passes
from hearth.compiler.pipeline import Options, compile_model
from hearth.compiler.quantize import quantize
from hearth.runtime import load
from hearth.schemas.recipe import make_recipe

F32 = NDArray[np.float32]
CONTEXT = 64


def wanted(skip: tuple[str, ...] = (), **values: object) -> Options:
    """Options by the recipe's names; the context is short."""
    recipe = {"source": "s", "output": "o", "context": CONTEXT, "target": "x86-64-v3", **values}
    return options(make_recipe(recipe), frozenset(skip))


def compiled_logits(source: Path, output: Path, wanted: Options, ids: NDArray[np.int32]) -> F32:
    """[3, V]: the archive's logits after all but two tokens, and after each of the last two."""
    compile_model(source, output, wanted)
    session = load(output, threads=2).session()
    first = session.prefill(ids[:-2])
    return np.stack([first, session.decode(int(ids[-2])), session.decode(int(ids[-1]))])


def evaluated_logits(source: Path, wanted: Options, ids: NDArray[np.int32]) -> F32:
    """The same from numpy, over the graph as it is before lowering."""
    graph = graph_before_lowering(source, wanted)
    rows, state = evaluate(graph, "prefill", ids[:-2].astype(np.int64), State.empty())
    found = [rows[-1]]
    for token in ids[-2:]:
        rows, state = evaluate(graph, "decode", np.array([token], np.int64), state)
        found.append(rows[-1])
    return np.stack(found)


def graph_before_lowering(source: Path, wanted: Options) -> Graph:
    """What the pipeline lowers."""
    model = frontend.load(source, context=wanted.context, kv=wanted.scheme.kv)
    graph = quantize(run_passes(FLOAT_PASSES, model.graph, wanted.skip), wanted.scheme)
    return run_passes(QUANTISED_PASSES, graph, wanted.skip)
