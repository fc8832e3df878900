"""RotaryFamily: what distinguishes one family of rotary decoders (Llama's block) from the next, as data."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from hearth.compiler.frontend.blueprint import Blueprint, Request
from hearth.compiler.frontend.coding import read_coding
from hearth.compiler.frontend.config import ModelConfig, read_config
from hearth.compiler.frontend.decoder import build, build_vectors
from hearth.compiler.frontend.families.windows import Windows
from hearth.compiler.frontend.fields import Fields
from hearth.compiler.frontend.rope_config import THETA
from hearth.compiler.frontend.rotary_names import LLAMA_NAMES, Names, Part, norm_bias
from hearth.schemas.commands import Activation
from hearth.schemas.manifest import Dims, Embedding, ModelKind

WindowRule = Callable[[Fields, int], Windows]
"""(config, number of layers) -> the window of every layer, 0 for none."""


@dataclass(frozen=True)
class RotaryFamily:
    """One family: `biased` linears always have a bias, those of `bias_keys` where the key is true.

    `kv_heads_optional`: num_key_value_heads may be absent and is num_attention_heads then. `head_norms`: queries and
    keys are normalised head by head before RoPE. `partial_rotary`: the share of each head that is turned where no key
    tells; None: heads are turned whole. `defaults`: of keys that may be absent. `activation_key` names the gate's
    function, `activation` where it is absent; `former_activations` are names that mean another function here. `theta`:
    of RoPE, where no key tells; `local_theta` likewise of layers with a window, which have a RoPE of their own where it
    is given. `query_scalar`: query_pre_attn_scalar takes the place of head_dim in the scale of scores. `score_cap`,
    `logit_cap`: attn_logit_softcapping and final_logit_softcapping are read. The rest is ModelConfig's.
    """

    model_type: str
    architectures: tuple[str, ...]
    bodies: tuple[str, ...]
    windows: WindowRule
    biased: frozenset[Part] = frozenset()
    bias_keys: Mapping[str, frozenset[Part]] = field(default_factory=dict)
    names: Names = LLAMA_NAMES
    kv_heads_optional: bool = False
    head_norms: bool = False
    partial_rotary: float | None = None
    defaults: Mapping[str, Any] = field(default_factory=dict)
    activation_key: str = "hidden_act"
    activation: str = "silu"
    former_activations: Mapping[str, Activation] = field(default_factory=dict)
    layer_norms: bool = False
    gains_from_one: bool = False
    scaled_embeddings: bool = False
    theta: float = THETA
    local_theta: float | None = None
    query_scalar: bool = False
    score_cap: bool = False
    logit_cap: bool = False

    def blueprint(self, fields: Fields, request: Request) -> Blueprint:
        """The config's tensors and graph."""
        config = read_config(fields, self, request)
        names, headless, sentence = self.names, request.headless, request.sentence
        made = Embedding(sentence.pooling, sentence.normalised, config.hidden)
        return Blueprint(
            kind=ModelKind.ENCODER if headless else ModelKind.DECODER,
            dims=_dims(config),
            context=config.context,
            shapes=partial(_shapes, config, names, headless),
            build=partial(build_vectors if headless else build, config, names, request),
            stem=names.stem,
            head=names.head,
            embedding=made if headless else None,
            ignored=names.buffers,
            repeats={names.head: names.embedding} if config.tied else {},
            hints={names.head: TIED_HINT},
            coding=read_coding(fields),
            notes=_notes(config),
        )


TIED_HINT = "if the model shares its embeddings, set tie_word_embeddings to true in config.json"


def _notes(config: ModelConfig) -> tuple[str, ...]:
    """What differs from other programs in a way that the person who compiles can choose."""
    rope = config.rope
    if not rope.is_long(config.context) or rope.long == rope.short:
        return ()
    short = rope.original_context
    return (
        f"context {config.context}: all texts are turned by longrope's factors for more than {short} tokens; "
        f"for texts of up to {short} alone compile with --context {short}",
    )


def _dims(config: ModelConfig) -> Dims:
    return Dims(
        config.layers,
        config.hidden,
        config.heads,
        config.kv_heads,
        config.head_dim,
        config.ffn,
        config.vocab,
    )


def _shapes(
    config: ModelConfig, names: Names, headless: bool
) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Every tensor with its shape; of tied embeddings only the one table."""
    table = (config.vocab, config.hidden)
    yield names.embedding, table
    for layer in range(config.layers):
        norms = names.attention_norm, names.ffn_norm, names.attention_post_norm, names.ffn_post_norm
        for norm in filter(None, norms):
            yield from _norm_shapes(config, norm.format(layer=layer))
        if config.head_norms:
            yield names.query_norm.format(layer=layer), (config.head_dim,)
            yield names.key_norm.format(layer=layer), (config.head_dim,)
        for part in names.linears:
            shape = config.linear_shape(part)
            yield f"{names.linear(part, layer)}.weight", shape
            if part in config.biased:
                yield f"{names.linear(part, layer)}.bias", shape[:1]
    yield from _norm_shapes(config, names.final_norm)
    if not config.tied and not headless:
        yield names.head, table
    if names.head_bias and not headless:
        yield names.head_bias, table[:1]


def _norm_shapes(config: ModelConfig, gain: str) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield gain, (config.hidden,)
    if config.layer_norms:
        yield norm_bias(gain), (config.hidden,)
