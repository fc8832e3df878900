"""Family: what distinguishes one model family from the next, as data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from hearth.compiler.frontend.fields import Fields


class Part(StrEnum):
    """The linears of a decoder layer."""

    Q = "q"
    K = "k"
    V = "v"
    O = "o"  # noqa: E741
    GATE = "gate"
    UP = "up"
    DOWN = "down"


@dataclass(frozen=True)
class Names:
    """Templates of tensor names; `{layer}` stands for the number of the layer."""

    embedding: str = "model.embed_tokens.weight"
    head: str = "lm_head.weight"
    final_norm: str = "model.norm.weight"
    attention_norm: str = "model.layers.{layer}.input_layernorm.weight"
    ffn_norm: str = "model.layers.{layer}.post_attention_layernorm.weight"
    linears: Mapping[Part, str] = field(
        default_factory=lambda: {
            Part.Q: "model.layers.{layer}.self_attn.q_proj",
            Part.K: "model.layers.{layer}.self_attn.k_proj",
            Part.V: "model.layers.{layer}.self_attn.v_proj",
            Part.O: "model.layers.{layer}.self_attn.o_proj",
            Part.GATE: "model.layers.{layer}.mlp.gate_proj",
            Part.UP: "model.layers.{layer}.mlp.up_proj",
            Part.DOWN: "model.layers.{layer}.mlp.down_proj",
        }
    )
    buffers: tuple[str, ...] = (  # tables old checkpoints carry along; computed here instead
        "model.layers.{layer}.self_attn.rotary_emb.inv_freq",
        "model.rotary_emb.inv_freq",
    )

    def linear(self, part: Part, layer: int) -> str:
        """The prefix of `.weight` and `.bias`."""
        return self.linears[part].format(layer=layer)


WindowRule = Callable[[Fields, int], int]
"""(config, number of layers) -> the window of every layer, 0 for none."""


@dataclass(frozen=True)
class Family:
    """One family: `biased` linears always have a bias, those of `bias_keys` where the key is true.

    `kv_heads_optional`: num_key_value_heads may be absent and is num_attention_heads then.
    """

    model_type: str
    architectures: tuple[str, ...]
    window: WindowRule
    biased: frozenset[Part] = frozenset()
    bias_keys: Mapping[str, frozenset[Part]] = field(default_factory=dict)
    names: Names = Names()
    kv_heads_optional: bool = False
