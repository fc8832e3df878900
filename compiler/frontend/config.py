"""ModelConfig: what the config.json of a rotary decoder says, typed, in either spelling (transformers 4 and 5)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from hearth.compiler.frontend.activations import read_activation
from hearth.compiler.frontend.blueprint import Request, choose_context
from hearth.compiler.frontend.fields import Fields
from hearth.compiler.frontend.rope import are_usable
from hearth.compiler.frontend.rope_config import (
    RopeConfig,
    context_limit,
    read_rope,
    read_two_ropes,
)
from hearth.compiler.frontend.rotary_names import MERGED, Part
from hearth.schemas.commands import GATES, Activation

if TYPE_CHECKING:
    from hearth.compiler.frontend.families.rotary import RotaryFamily

MOST_LAYERS = 10_000


@dataclass(frozen=True)
class ModelConfig:
    """A decoder: L layers, E hidden, H heads over Hkv KV heads of D, F ffn, V vocab, context S.

    `biased` names the linears that have a bias; `windows` has 0 for layers whose positions see all before them, the
    others turn queries and keys by `local_rope` where there is one; `query_scalar` stands for D in the scale of scores.
    `head_norms`: queries and keys are normalised head by head. Not `causal`: every position sees the whole text.
    `activation`: of the gate, or without one of what goes up. `layer_norms`: norms take the mean off and have biases.
    `gains_from_one`: norms multiply by 1 plus what is stored. `scaled_embeddings`: layers read the table's rows times
    sqrt(E), rounded to the type that the table is stored in. Scores and logits are capped (SoftCap) where their caps
    are not 0.
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
    windows: tuple[int, ...]
    rope: RopeConfig
    biased: tuple[Part, ...] = ()
    head_norms: bool = False
    causal: bool = True
    activation: Activation = Activation.SILU
    layer_norms: bool = False
    gains_from_one: bool = False
    local_rope: RopeConfig | None = None
    query_scalar: float | None = None
    score_cap: float = 0.0
    logit_cap: float = 0.0
    scaled_embeddings: bool = False

    @property
    def scale(self) -> float:
        """What scores of attention are multiplied by, an f32."""
        return float(np.float32((self.query_scalar or self.head_dim) ** -0.5))

    def linear_shape(self, part: Part) -> tuple[int, int]:
        """[N, K] of a linear of a layer."""
        if part in MERGED:
            shapes = [self.linear_shape(each) for each in MERGED[part]]
            return sum(n for n, _ in shapes), self.hidden
        queries, keys = self.heads * self.head_dim, self.kv_heads * self.head_dim
        return {
            Part.Q: (queries, self.hidden),
            Part.K: (keys, self.hidden),
            Part.V: (keys, self.hidden),
            Part.O: (self.hidden, queries),
            Part.GATE: (self.ffn, self.hidden),
            Part.UP: (self.ffn, self.hidden),
            Part.DOWN: (self.hidden, self.ffn),
        }[part]


def read_config(fields: Fields, family: RotaryFamily, request: Request) -> ModelConfig:
    """The typed config; whatever would change the logits and is not supported is refused by name."""
    fields = fields.or_else(family.defaults)
    layers = _layers(fields)
    heads, kv_heads, head_dim = _heads(fields, family)
    rope, local = _ropes(fields, head_dim, family)
    context = _context(fields, request, rope)
    if not all(are_usable(each, head_dim, context) for each in (rope, local or rope)):
        raise fields.invalid("rope_theta", "RoPE frequencies that f32 can turn angles by")
    windows = family.windows(fields, layers)
    return ModelConfig(
        family=family.model_type,
        layers=layers,
        hidden=fields.integer("hidden_size"),
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        ffn=fields.integer("intermediate_size"),
        vocab=fields.integer("vocab_size"),
        context=context,
        tied=fields.flag("tie_word_embeddings", False),
        norm_eps=fields.number("layer_norm_eps" if family.layer_norms else "rms_norm_eps"),
        windows=windows,
        rope=rope,
        biased=_biased(fields, family),
        head_norms=family.head_norms,
        causal=not request.headless or _is_causal(fields, any(windows)),
        activation=_activation(fields, family),
        layer_norms=family.layer_norms,
        gains_from_one=family.gains_from_one,
        local_rope=local,
        query_scalar=fields.number("query_pre_attn_scalar") if family.query_scalar else None,
        score_cap=fields.number("attn_logit_softcapping", 0.0) if family.score_cap else 0.0,
        logit_cap=fields.number("final_logit_softcapping", 0.0) if family.logit_cap else 0.0,
        scaled_embeddings=family.scaled_embeddings,
    )


def _layers(fields: Fields) -> int:
    """L; what is told of each layer takes memory, so that a slip of many digits is refused."""
    layers = fields.integer("num_hidden_layers")
    if layers > MOST_LAYERS:
        raise fields.invalid("num_hidden_layers", f"at most {MOST_LAYERS}")
    return layers


def _context(fields: Fields, request: Request, rope: RopeConfig) -> int:
    """As asked for; else what the config says, or for vectors alone the files of sentence-transformers."""
    longest = fields.integer("max_position_embeddings")
    suggested = request.sentence.longest if request.headless else 0
    limit = context_limit(rope, longest)
    return choose_context(request.context, limit, min(suggested or longest, longest), fields.where)


def _ropes(
    fields: Fields, head_dim: int, family: RotaryFamily
) -> tuple[RopeConfig, RopeConfig | None]:
    """Of all layers, or of those without and those with a window."""
    if family.local_theta is None:
        return read_rope(fields, head_dim, family.partial_rotary, family.theta), None
    return read_two_ropes(fields, head_dim, family.theta, family.local_theta)


def _is_causal(fields: Fields, windowed: bool) -> bool:
    """Models of vectors may let every position see the whole text (gte-Qwen2 does), without a window."""
    causal = fields.flag("is_causal", True)
    if windowed and not causal:
        raise fields.unsupported("is_causal", "true beside a sliding window")
    return causal


def _activation(fields: Fields, family: RotaryFamily) -> Activation:
    """Of the gate, if there is one: one that no gated unit has would be left out of the epilogue, and is refused."""
    name = fields.text(family.activation_key, family.activation)
    if name in family.former_activations:
        return family.former_activations[name]
    found = read_activation(fields, family.activation_key, family.activation)
    if family.names.gated and found not in GATES.values():
        raise fields.unsupported(family.activation_key, "silu or gelu_pytorch_tanh")
    return found


def _heads(fields: Fields, family: RotaryFamily) -> tuple[int, int, int]:
    """(H, Hkv, D), each explicit or by transformers' rule."""
    hidden, heads = fields.integer("hidden_size"), fields.integer("num_attention_heads")
    fallback = heads if family.kv_heads_optional else None
    kv_heads = fields.integer("num_key_value_heads", fallback)
    if heads % kv_heads:
        raise fields.invalid("num_key_value_heads", f"a divisor of num_attention_heads = {heads}")
    head_dim = fields.optional_integer("head_dim") or 0
    if not head_dim and hidden % heads:
        raise fields.invalid("num_attention_heads", f"a divisor of hidden_size = {hidden}")
    head_dim = head_dim or hidden // heads
    if head_dim % 2:
        key = "head_dim" if "head_dim" in fields.values else "hidden_size"
        raise fields.invalid(key, f"an even head size, not {head_dim}: rotary halves")
    return heads, kv_heads, head_dim


def _biased(fields: Fields, family: RotaryFamily) -> tuple[Part, ...]:
    chosen = [parts for key, parts in family.bias_keys.items() if fields.flag(key, False)]
    biased = family.biased.union(*chosen)
    return tuple(part for part in Part if part in biased)
