"""ModelConfig: what config.json says, typed, in either spelling (transformers 4 and 5)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hearth.compiler.frontend.config_keys import check_unread
from hearth.compiler.frontend.families import Family, Part, find_family
from hearth.compiler.frontend.fields import Fields, shorten
from hearth.compiler.frontend.rope import are_usable
from hearth.compiler.frontend.rope_config import RopeConfig, context_limit, read_rope
from hearth.schemas.errors import CheckpointError, UsageError

DEFAULT_CONTEXT = 4096


@dataclass(frozen=True)
class ModelConfig:
    """A decoder: L layers, E hidden, H heads over Hkv KV heads of D, F ffn, V vocab, context S.

    `biased` names the linears that have a bias; `window` is 0 where every position sees all before it.
    """

    family: str
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    ffn: int
    vocab: int
    context: int
    tied: bool
    norm_eps: float
    window: int
    rope: RopeConfig
    biased: tuple[Part, ...] = ()


def parse_config(
    values: Mapping[str, Any], *, context: int | None = None, where: str = "config.json"
) -> ModelConfig:
    """The typed config; whatever would change the logits and is not supported is refused by name."""
    fields = Fields(values, where)
    family = find_family(fields.text("model_type"), where)
    _check_architecture(fields, family)
    _check_activation(fields)
    layers = fields.integer("num_hidden_layers")
    heads, kv_heads, head_dim = _heads(fields, family)
    rope = read_rope(fields)
    if not are_usable(rope, head_dim):
        raise fields.invalid("rope_theta", "RoPE frequencies that f32 can turn angles by")
    longest = fields.integer("max_position_embeddings")
    config = ModelConfig(
        family=family.model_type,
        layers=layers,
        hidden=fields.integer("hidden_size"),
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        ffn=fields.integer("intermediate_size"),
        vocab=fields.integer("vocab_size"),
        context=_context(context, context_limit(rope, longest), longest, where),
        tied=fields.flag("tie_word_embeddings", False),
        norm_eps=fields.number("rms_norm_eps"),
        window=family.window(fields, layers),
        rope=rope,
        biased=_biased(fields, family),
    )
    check_unread(fields)
    return config


def _check_architecture(fields: Fields, family: Family) -> None:
    names = fields.strings("architectures")
    if names is not None and not set(names) & set(family.architectures):
        raise CheckpointError(
            "family.architecture",
            f"architectures = {shorten(list(names))} of model_type {family.model_type!r}",
            expected=" or ".join(family.architectures),
            where=fields.where,
            remedy="only causal language models are compiled",
        )


def _check_activation(fields: Fields) -> None:
    if fields.text("hidden_act", "silu") not in ("silu", "swish"):
        raise fields.unsupported("hidden_act", "silu")


def _heads(fields: Fields, family: Family) -> tuple[int, int, int]:
    """(H, Hkv, D), each explicit or by transformers' rule."""
    hidden, heads = fields.integer("hidden_size"), fields.integer("num_attention_heads")
    fallback = heads if family.kv_heads_optional else None
    kv_heads = fields.integer("num_key_value_heads", fallback)
    if heads % kv_heads:
        raise fields.invalid("num_key_value_heads", f"a divisor of num_attention_heads = {heads}")
    head_dim = fields.optional_integer("head_dim")
    if head_dim is None and hidden % heads:
        raise fields.invalid("num_attention_heads", f"a divisor of hidden_size = {hidden}")
    head_dim = head_dim or hidden // heads
    if head_dim % 2:
        key = "head_dim" if "head_dim" in fields.values else "hidden_size"
        raise fields.invalid(key, f"an even head size, not {head_dim}: rotary halves")
    return heads, kv_heads, head_dim


def _biased(fields: Fields, family: Family) -> tuple[Part, ...]:
    chosen = [parts for key, parts in family.bias_keys.items() if fields.flag(key, False)]
    biased = family.biased.union(*chosen)
    return tuple(part for part in Part if part in biased)


def _context(asked: int | None, limit: int, longest: int, where: str) -> int:
    """The context length: asked for, or what the model was made for, at most 4096."""
    if asked is None:
        return min(longest, DEFAULT_CONTEXT)
    if not 1 <= asked <= limit:
        raise UsageError(
            "context.out_of_range",
            f"context {asked}",
            expected=f"1 to {limit}, which the model was made for",
            where=where,
            remedy="choose a smaller --context",
        )
    return asked
