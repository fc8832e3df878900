"""`hearth run` on an encoder: print the vectors of texts."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hearth.runtime.commands.arguments import given_or_read, parse_ids
from hearth.runtime.commands.run_options import RunOptions
from hearth.runtime.commands.terminal import duration, emit, emit_json, rate
from hearth.runtime.machine.whereabouts import whereabouts, whereabouts_text

if TYPE_CHECKING:
    from hearth.runtime.encoder import Encoder
    from hearth.runtime.text.tokenizer import Encoded


def run_encoder(model: Encoder, options: RunOptions) -> None:
    """One vector a line, its numbers with spaces between; --hidden: one line a token."""
    texts = [model.encode(text) for text in read_texts(options)]
    began = time.perf_counter()
    hidden = options.encoder.hidden
    rows = [model.hidden(text) for text in texts] if hidden else [*model.embed(texts)]
    elapsed = time.perf_counter() - began
    if options.as_json:
        emit_json(as_object(texts, rows, hidden, elapsed, options.load_s) | whereabouts(model))
    else:
        for vectors in rows:
            for vector in np.atleast_2d(vectors):
                emit(" ".join(map(str, vector)) + "\n")
    if options.text.stats:
        count = sum(len(text.ids) for text in texts)
        lines = [
            f"load {duration(options.load_s)} | {len(texts)} texts, {count} tokens in"
            f" {duration(elapsed)}, {rate(count / elapsed)}",
            *whereabouts_text(whereabouts(model)),
        ]
        print("\n".join(lines), file=sys.stderr)


def read_texts(options: RunOptions) -> list[Any]:
    """The argument as one text; of standard input every line."""
    given, pair = options.text, options.encoder.pair
    read = given.prompt is None or given.prompt == "-"
    text = given_or_read(given.prompt)
    texts = text.split("\n") if read else [text]
    if given.ids:
        return [parse_ids(each) for each in texts]
    return texts if pair is None else [(each, pair) for each in texts]


def as_object(
    texts: list[Encoded],
    rows: list[NDArray[np.float32]],
    hidden: bool,
    elapsed: float,
    load_s: float,
) -> dict[str, Any]:
    """What --json prints."""
    return {
        "hidden" if hidden else "embeddings": [_plain(each) for each in rows],
        "tokens": [list(text.ids) for text in texts],
        "load_s": load_s,
        "embed_s": elapsed,
    }


def _plain(array: NDArray[np.float32]) -> Any:
    """Nested lists, each number as short as names its float32."""
    if array.ndim > 1:
        return [_plain(row) for row in array]
    return [float(str(value)) for value in array]
