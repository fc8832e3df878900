"""Which tensors a config asks for, and the check that a checkpoint holds these and no others."""

from __future__ import annotations

from collections.abc import Iterator

from hearth.compiler.frontend.checkpoint import Checkpoint
from hearth.compiler.frontend.config import ModelConfig
from hearth.compiler.frontend.families import Names, Part
from hearth.schemas.errors import CheckpointError


def linear_shapes(config: ModelConfig) -> dict[Part, tuple[int, int]]:
    """[N, K] of each linear of a layer."""
    queries, keys = config.heads * config.head_dim, config.kv_heads * config.head_dim
    return {
        Part.Q: (queries, config.hidden),
        Part.K: (keys, config.hidden),
        Part.V: (keys, config.hidden),
        Part.O: (config.hidden, queries),
        Part.GATE: (config.ffn, config.hidden),
        Part.UP: (config.ffn, config.hidden),
        Part.DOWN: (config.hidden, config.ffn),
    }


def expected_shapes(config: ModelConfig, names: Names) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Every tensor with its shape; of tied embeddings only the one table."""
    table = (config.vocab, config.hidden)
    yield names.embedding, table
    for layer in range(config.layers):
        yield names.attention_norm.format(layer=layer), (config.hidden,)
        yield names.ffn_norm.format(layer=layer), (config.hidden,)
        for part, shape in linear_shapes(config).items():
            yield f"{names.linear(part, layer)}.weight", shape
            if part in config.biased:
                yield f"{names.linear(part, layer)}.bias", shape[:1]
    yield names.final_norm, (config.hidden,)
    if not config.tied:
        yield names.head, table


def check_tensors(checkpoint: Checkpoint, config: ModelConfig, names: Names) -> None:
    """Missing, misshapen or left over: refused by name."""
    left = set(checkpoint.owner)
    for name, shape in expected_shapes(config, names):
        if name not in checkpoint.owner:
            raise _missing(checkpoint, name, shape, name == names.head)
        found = checkpoint.source(name).shape
        if found != shape:
            raise CheckpointError(
                "checkpoint.tensor_shape",
                f"tensor {name!r} has shape {list(found)}",
                expected=f"{list(shape)} by config.json",
                where=str(checkpoint.owner[name].path),
            )
        left.remove(name)
    _check_left_over(checkpoint, config, names, left)


def _missing(
    checkpoint: Checkpoint, name: str, shape: tuple[int, ...], is_head: bool
) -> CheckpointError:
    tied = "if the model shares its embeddings, set tie_word_embeddings to true in config.json"
    return CheckpointError(
        "checkpoint.tensor_missing",
        f"tensor {name!r} is missing",
        expected=f"shape {list(shape)} by config.json",
        where=str(checkpoint.directory),
        remedy=tied if is_head else "",
    )


def _check_left_over(
    checkpoint: Checkpoint, config: ModelConfig, names: Names, left: set[str]
) -> None:
    """Rotary buffers are ignored, as is a head that repeats the tied table."""
    layers = range(config.layers)
    left -= {buffer.format(layer=layer) for buffer in names.buffers for layer in layers}
    if config.tied and names.head in left:
        _check_tied_head(checkpoint, names)
        left.remove(names.head)
    if left:
        more = f" and {len(left) - 1} more" if len(left) > 1 else ""
        name = min(left)
        raise CheckpointError(
            "checkpoint.tensor_left_over",
            f"tensor {name!r}{more} has no place in this model",
            expected=f"only what a {config.family} of {config.layers} layers has",
            where=str(checkpoint.owner[name].path),
            remedy="an adapter must be merged first; other parts must be removed",
        )


def _check_tied_head(checkpoint: Checkpoint, names: Names) -> None:
    if not checkpoint.source(names.head).same_bytes(checkpoint.source(names.embedding)):
        raise CheckpointError(
            "checkpoint.tied_head_differs",
            f"tensor {names.head!r} differs from {names.embedding!r}",
            expected="the same values, as tie_word_embeddings says",
            where=str(checkpoint.owner[names.head].path),
            remedy="set tie_word_embeddings to false in config.json, or remove the tensor",
        )
