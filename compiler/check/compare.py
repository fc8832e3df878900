"""Run source and archive on the same inputs, and say how far they are apart."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hearth.compiler import frontend
from hearth.compiler.check.accuracy import (
    Accuracy,
    Figures,
    accuracy,
    array_figures,
    logits_figures,
    require,
    vector_figures,
)
from hearth.compiler.check.inputs import CheckOptions, Ids, Prompt, lines, windows
from hearth.compiler.check.reference import Reference, reference, whole_graph
from hearth.compiler.conduct import Conduct
from hearth.compiler.frontend import SourceModel
from hearth.compiler.job import Options
from hearth.compiler.memory import settle
from hearth.runtime.archive import Archive
from hearth.runtime.encoder import HIDDEN, TOKENS, TYPES, Encoder
from hearth.runtime.graphs.model import GraphModel
from hearth.runtime.loader import any_of
from hearth.runtime.model import Model
from hearth.runtime.text.tokenizer import Encoded
from hearth.runtime.verify.draws import draw
from hearth.runtime.verify.graphs import graph_case
from hearth.schemas.commands import KVScheme

F32 = NDArray[np.float32]
GRAPH_SEEDS = (2, 3, 4)


def comparison(
    path: Path, options: Options, conduct: Conduct
) -> Callable[[Archive], Accuracy] | None:
    """Compares an archive, which may be unfinished, with the source it was made of; None where nobody asked.

    `conduct.compared` hears of the figures before a gate they miss raises LimitError.
    """
    if conduct.checked is None:
        return None
    checked, threads = conduct.checked, conduct.threads

    def compare(archive: Archive) -> Accuracy:
        source = frontend.load(
            path, context=options.context, kv=KVScheme.F32, pooling=options.pooling
        )
        settle()
        model = any_of(archive, threads or None)
        if isinstance(source, SourceModel) and not isinstance(model, GraphModel):
            found = compare_model(
                model, reference(path, source, conduct.progress, threads), checked
            )
        elif isinstance(model, GraphModel) and not isinstance(source, SourceModel):
            found = compare_graph(model, whole_graph(source, threads))
        else:
            raise TypeError(f"{type(source).__name__} became a {type(model).__name__}")
        if conduct.compared is not None:
            conduct.compared(found)
        require(found, checked.gate)
        return found

    return compare


def compare_model(model: Model | Encoder, source: Reference, options: CheckOptions) -> Accuracy:
    """Logits of every position of every prompt, or the vector of every text."""
    tokenizer = model.tokenizer if model.has_tokenizer else None
    dims = model.manifest.dims
    cut = windows if isinstance(model, Model) else lines
    prompts = cut(options, tokenizer, 1 if dims is None else dims.vocab, model.context)
    wanted = source.run([call(prompt.ids) for prompt in prompts])
    return accuracy(
        _figures(model, source.entry, prompt, rows)
        for prompt, rows in zip(prompts, wanted, strict=True)
    )


def call(ids: Ids) -> dict[str, Ids]:
    """What an entry is fed, by port."""
    return {TOKENS: ids, TYPES: np.zeros_like(ids)}


def _figures(model: Model | Encoder, entry: str, prompt: Prompt, wanted: F32) -> Figures:
    if isinstance(model, Model):
        return logits_figures(prompt.name, wanted, compiled_logits(model, prompt.ids))
    text = Encoded(prompt.ids.tolist(), [0] * len(prompt.ids))
    found = model.hidden(text) if entry == HIDDEN else model.embed([text])
    return vector_figures(prompt.name, wanted, found)


def compiled_logits(model: Model, ids: Ids) -> F32:
    """[T, V] of the archive, chunk by chunk."""
    state = model.new_state()
    logits = np.empty((len(ids), model.vocab), np.float32)
    for start in range(0, len(ids), model.chunk):
        part = slice(start, start + model.chunk)
        model.run(state, "prefill", ids[part], start, logits[part])
    return logits


def compare_graph(
    model: GraphModel, reference: Callable[[dict[str, Any]], dict[str, Any]]
) -> Accuracy:
    """Every output on drawn inputs; nothing where the graph takes none that can be drawn."""
    found: list[Figures] = []
    for seed in GRAPH_SEEDS:
        case = graph_case(model, seed)
        if case is not None:
            feeds = {
                name: draw(seed, name, port.dtype, port.shape) for name, port in case.inputs.items()
            }
            found += output_figures(seed, reference(feeds), model.run(feeds))
    return accuracy(found)


def output_figures(seed: int, source: dict[str, Any], found: dict[str, Any]) -> Sequence[Figures]:
    """One row for each output."""
    return [
        value_figures(f"{name} of draw {seed}", wanted, found[name])
        for name, wanted in source.items()
    ]


def value_figures(name: str, source: Any, found: Any) -> Figures:
    """Numbers by their differences, anything else by being equal."""
    arrays = isinstance(source, np.ndarray) and isinstance(found, np.ndarray)
    if arrays and source.dtype.kind not in "OUS" and source.shape == found.shape:
        return array_figures(name, source, found)
    same = np.array_equal(source, found) if arrays else repr(source) == repr(found)
    return Figures(name, 1, 0.0 if same else float("inf"), 0.0)
