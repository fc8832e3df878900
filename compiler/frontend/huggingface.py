"""A Hugging Face directory -> SourceModel: config, checked lazy weights in a graph, and assets."""

from __future__ import annotations

import hashlib
import os
from dataclasses import replace
from pathlib import Path

from hearth.compiler.frontend.asset_checks import check_assets
from hearth.compiler.frontend.assets import ASSET_FILES, Assets, read_assets
from hearth.compiler.frontend.blueprint import Request
from hearth.compiler.frontend.checkpoint import Checkpoint, open_checkpoint
from hearth.compiler.frontend.config_keys import check_unread
from hearth.compiler.frontend.families import find_family
from hearth.compiler.frontend.fields import Fields
from hearth.compiler.frontend.json_files import parse_object, read_bytes
from hearth.compiler.frontend.pooled import (
    embedding_of,
    is_headless,
    require_pooling,
    with_rows,
)
from hearth.compiler.frontend.sentence import Sentence, read_sentence
from hearth.compiler.frontend.source import SourceModel
from hearth.compiler.frontend.tensor_names import check_tensors
from hearth.schemas.commands import KVScheme
from hearth.schemas.errors import CheckpointError
from hearth.schemas.manifest import ModelKind
from hearth.schemas.recipe import PoolingName


def load(
    path: Path, *, context: int | None, kv: KVScheme, pooling: PoolingName | None = None
) -> SourceModel:
    """Read and check everything but the weights' values, which are checked as they are read.

    Without `pooling` the files of sentence-transformers decide; without those an encoder's rows are averaged, and
    a decoder makes no vectors. A decoder without a head becomes an encoder, and needs a pooling.
    """
    content, where = _config_json(path)
    values = parse_object(content, where)
    fields = Fields(values, str(where))
    family = find_family(fields)
    sentence = read_sentence(path, pooling)
    request = Request(context, kv, sentence)
    blueprint = family.blueprint(fields, request)
    checkpoint = open_checkpoint(path)
    if is_headless(fields, family, blueprint, checkpoint, sentence):
        require_pooling(sentence, str(where))
        blueprint = family.blueprint(fields, replace(request, headless=True))
    check_unread(fields)
    embedding, decoder = blueprint.embedding, blueprint.kind is ModelKind.DECODER
    if decoder:
        embedding = embedding_of(sentence, blueprint.dims, family.model_type, str(where))
    tensors = check_tensors(checkpoint, blueprint, family.model_type)
    assets = read_assets(path, values, blueprint.dims.vocab)
    assets = replace(assets, instructions=sentence.instructions if embedding is not None else None)
    check_assets(assets, path)
    graph = blueprint.build(tensors.weight)
    return SourceModel(
        kind=blueprint.kind,
        family=family.model_type,
        dims=blueprint.dims,
        context=blueprint.context,
        graph=with_rows(graph) if decoder and embedding is not None else graph,
        assets=assets,
        fingerprint=_fingerprint(content, checkpoint, assets, sentence),
        files=_files(path, checkpoint, sentence),
        embedding=embedding,
        notes=(*blueprint.notes, *assets.notes),
    )


def _files(directory: Path, checkpoint: Checkpoint, sentence: Sentence) -> tuple[Path, ...]:
    """Every file that was read."""
    beside = ("config.json", *ASSET_FILES)
    small = tuple(directory / name for name in beside if (directory / name).exists())
    return (*small, *sentence.files, *checkpoint.files)


def _config_json(directory: Path) -> tuple[bytes, Path]:
    if not os.path.isdir(directory):  # unlike Path.is_dir, False whatever the system says
        kind = "a file" if os.path.exists(directory) else "no such directory"
        raise CheckpointError(
            "checkpoint.not_found",
            kind,
            expected="a directory with config.json and model.safetensors",
            where=str(directory),
        )
    where = directory / "config.json"
    content = read_bytes(where)
    if content is None:
        raise CheckpointError(
            "checkpoint.config_missing",
            "no config.json, and no .onnx file",
            expected="a Hugging Face checkpoint directory, or one with an ONNX graph",
            where=str(directory),
        )
    return content, where


def _fingerprint(
    config_json: bytes, checkpoint: Checkpoint, assets: Assets, sentence: Sentence
) -> str:
    """sha256 over config.json, the assets, and the weights as `Checkpoint.sample_hash` covers them."""
    template = None if assets.chat_template is None else assets.chat_template.encode()
    digest = hashlib.sha256(checkpoint.sample_hash())
    parts = (
        config_json,
        assets.tokenizer_json,
        assets.tokenizer_config,
        template,
        assets.generation_config,
    )
    for part in parts:
        digest.update(hashlib.sha256(part).digest() if part is not None else b"absent")
    for path in sentence.files:
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()
