"""A Hugging Face directory -> SourceModel: config, checked lazy weights in a graph, and assets."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from hearth.compiler.frontend.asset_checks import check_assets
from hearth.compiler.frontend.assets import Assets, read_assets
from hearth.compiler.frontend.checkpoint import Checkpoint, open_checkpoint
from hearth.compiler.frontend.config import ModelConfig, parse_config
from hearth.compiler.frontend.decoder import build
from hearth.compiler.frontend.families import FAMILIES
from hearth.compiler.frontend.json_files import parse_object, read_bytes
from hearth.compiler.frontend.source import SourceModel
from hearth.compiler.frontend.tensor_names import check_tensors
from hearth.schemas.commands import KVScheme
from hearth.schemas.errors import CheckpointError
from hearth.schemas.manifest import Dims, ModelKind


def load(path: Path, *, context: int | None, kv: KVScheme) -> SourceModel:
    """Read and check everything but the weights' values, which are checked as they are read."""
    content, where = _config_json(path)
    values = parse_object(content, where)
    config = parse_config(values, context=context, where=str(where))
    names = FAMILIES[config.family].names
    checkpoint = open_checkpoint(path)
    check_tensors(checkpoint, config, names)
    assets = read_assets(path, values, config.vocab)
    check_assets(assets, path)
    graph = build(config, names, kv, checkpoint.source)
    return SourceModel(
        kind=ModelKind.DECODER,
        family=config.family,
        dims=dims_of(config),
        context=config.context,
        graph=graph,
        assets=assets,
        fingerprint=_fingerprint(content, checkpoint, assets),
        files=tuple(shard.path for shard in checkpoint.shards),
        notes=assets.notes,
    )


def dims_of(config: ModelConfig) -> Dims:
    return Dims(
        config.layers,
        config.hidden,
        config.heads,
        config.kv_heads,
        config.head_dim,
        config.ffn,
        config.vocab,
    )


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
            "no config.json",
            expected="a Hugging Face checkpoint directory",
            where=str(directory),
        )
    return content, where


def _fingerprint(config_json: bytes, checkpoint: Checkpoint, assets: Assets) -> str:
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
    return digest.hexdigest()
