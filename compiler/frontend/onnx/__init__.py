"""ONNX graphs in: read and checked, raised to the IR where rules know them, kept as segments where not.

`load` gives a SourceModel where the whole graph is a decoder or an encoder, else a GraphSource with the reasons. How it
gets there, file by file:
- `reader` reads the file and checks it; `model` is what it gives;
- `ports` tells what each input is for, `dependence` which values depend on data, which on shapes alone;
- `probes` compute the latter by running their part of the graph at several points: sizes, masks, tables;
- `values` and `views` say what a data tensor is: a strided look at a matrix of the IR;
- `raising` is the engine, `rules/` has one rule per file, `regions` what norms, activations and rotations share;
- `layers` builds attention and its caches, `whole` the graph.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

from hearth.compiler.frontend.asset_checks import check_assets
from hearth.compiler.frontend.assets import read_assets
from hearth.compiler.frontend.onnx.beside import Beside, read_beside
from hearth.compiler.frontend.onnx.branches import with_past
from hearth.compiler.frontend.onnx.find import find_graph
from hearth.compiler.frontend.onnx.graph_source import GraphSource
from hearth.compiler.frontend.onnx.reader import read_model
from hearth.compiler.frontend.onnx.whole import NotRaised, Raised, raise_model
from hearth.compiler.frontend.sentence import Sentence, read_sentence
from hearth.compiler.frontend.source import SourceModel
from hearth.schemas.commands import KVScheme
from hearth.schemas.errors import UsageError
from hearth.schemas.manifest import ModelKind
from hearth.schemas.recipe import PoolingName

__all__ = ["GraphSource", "load"]


def load(
    path: Path, *, context: int | None, kv: KVScheme, pooling: PoolingName | None = None
) -> SourceModel | GraphSource:
    """An .onnx file, or a folder with one; the tokenizer, configs and sentence files lie beside it."""
    source = GraphSource(read_model(find_graph(path)))
    beside = read_beside(source.model.path)
    sentence = read_sentence(beside.directory, pooling)
    model = with_past(source.model)
    raised = raise_model(
        model, context=_context(beside, context, sentence), kv=kv, sentence=sentence
    )
    if isinstance(raised, NotRaised) and raised.longest is not None:
        if context is not None:
            raise _too_long(context, raised.longest, path)
        raised = raise_model(model, context=raised.longest, kv=kv, sentence=sentence)
    if pooling is not None:
        _require_pooled(raised, pooling, path)
    if isinstance(raised, NotRaised):
        return replace(source, reasons=raised.by_node())
    return _source_model(raised, source, beside, sentence)


def _context(beside: Beside, asked: int | None, sentence: Sentence) -> int:
    found = beside.context(asked)
    return min(found, sentence.longest) if asked is None and sentence.longest else found


def _require_pooled(raised: Raised | NotRaised, pooling: PoolingName, path: Path) -> None:
    """A pooling that is asked for is never dropped in silence."""
    if isinstance(raised, Raised) and raised.kind is ModelKind.ENCODER:
        return
    found = "decoder"
    if isinstance(raised, NotRaised):
        found = f"graph that stays general ({'; '.join(map(str, raised.reasons[-1:]))})"
    raise UsageError(
        "usage.pooling",
        f"pooling {pooling!r} for a {found}",
        expected="an encoder with an output of a row per token, or a checkpoint",
        where=str(path),
        remedy="leave --pooling away",
    )


def _too_long(context: int, longest: int, path: Path) -> UsageError:
    return UsageError(
        "context.out_of_range",
        f"context {context}",
        expected=f"1 to {longest}, where the graph's positions end",
        where=str(path),
        remedy="choose a smaller --context",
    )


def _source_model(
    raised: Raised, source: GraphSource, beside: Beside, sentence: Sentence
) -> SourceModel:
    assets = read_assets(beside.directory, beside.values, raised.dims.vocab)
    if raised.kind is ModelKind.ENCODER:
        assets = replace(assets, instructions=sentence.instructions)
    check_assets(assets, beside.directory)
    files = tuple(dict.fromkeys((*beside.files, *sentence.files)))
    digest = hashlib.sha256(source.fingerprint.encode())
    for file in files:
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    encoder_files = sentence.files if raised.kind is ModelKind.ENCODER else ()
    return SourceModel(
        kind=raised.kind,
        family=beside.family,
        dims=raised.dims,
        context=raised.context,
        graph=raised.graph,
        assets=assets,
        fingerprint=digest.hexdigest(),
        files=(*beside.files, *encoder_files, *source.files),
        embedding=raised.embedding,
        notes=(*raised.notes, *assets.notes),
    )
