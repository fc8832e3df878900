"""Run source and archive on the same inputs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from math import prod
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hearth.compiler import frontend
from hearth.compiler.check.accuracy import (
    Accuracy,
    Figures,
    accuracy,
    logits_figures,
    require,
)
from hearth.compiler.check.blocks import run_blocks
from hearth.compiler.check.inputs import CheckOptions, Ids, windows
from hearth.compiler.frontend import SourceModel
from hearth.compiler.ir.ops import Constant, Graph
from hearth.compiler.ir.rewrite import order
from hearth.compiler.job import Options
from hearth.runtime.archive import Archive
from hearth.runtime.loader import model_of
from hearth.runtime.model import Model
from hearth.runtime.progress import Progress, step
from hearth.schemas.commands import KVScheme

F32 = NDArray[np.float32]
# The source's logits [T, V] of each prompt, from an empty context; told of its progress.
Reference = Callable[[Sequence[Ids]], list[F32]]


def comparison(
    path: Path,
    options: Options,
    checked: CheckOptions | None,
    compared: Callable[[Accuracy], None] | None,
    progress: Progress,
    threads: int,
) -> Callable[[Archive], Accuracy] | None:
    """Compares an archive, which may be unfinished, with the source it was made of; None where nobody asked.

    `compared` hears of the figures before a gate they miss raises LimitError.
    """
    if checked is None:
        return None

    def compare(archive: Archive) -> Accuracy:
        source = frontend.load(
            path, context=options.context, kv=KVScheme.F32, pooling=options.pooling
        )
        found = compare_decoder(source, archive, checked, progress, threads)
        if compared is not None:
            compared(found)
        require(found, checked.gate)
        return found

    return compare


def compare_decoder(
    source: SourceModel,
    archive: Archive,
    options: CheckOptions,
    progress: Progress,
    threads: int,
) -> Accuracy:
    """Logits of every position of every prompt. `source` holds float weights and a float cache."""
    model = model_of(archive, threads or None)
    tokenizer = model.tokenizer if model.has_tokenizer else None
    prompts = windows(options, tokenizer, model.vocab, model.context)
    calls = [prompt.ids for prompt in prompts]
    with step(progress, "run the source", constants(source.graph, "main")) as advance:
        wanted = float_logits(source, calls, threads, advance)

    def figures() -> Iterator[Figures]:
        for prompt, logits in zip(prompts, wanted, strict=True):
            yield logits_figures(prompt.name, logits, compiled_logits(model, prompt.ids))

    return accuracy(figures())


def float_logits(
    source: SourceModel, calls: Sequence[Ids], threads: int, advance: Callable[[int], None]
) -> list[F32]:
    """What onnxruntime makes of the float graph."""
    ids = [{"tokens": each} for each in calls]
    found = run_blocks(source.graph, "main", ids, threads=threads, advance=advance)
    return [logits for (logits,) in found]


def constants(graph: Graph, entry: str) -> int:
    """Elements of the constants that an entry reads."""
    ops = order(graph.entries[entry])
    return sum(prod(op.value.shape) for op in ops if isinstance(op, Constant))


def compiled_logits(model: Model, ids: Ids) -> F32:
    """[T, V] of the archive, chunk by chunk."""
    state = model.new_state()
    logits = np.empty((len(ids), model.vocab), np.float32)
    for start in range(0, len(ids), model.chunk):
        part = slice(start, start + model.chunk)
        model.run(state, "prefill", ids[part], start, logits[part])
    return logits
