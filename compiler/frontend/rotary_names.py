"""The parts of a rotary decoder layer, and what its tensors are called."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum


class Part(StrEnum):
    """The linears of a decoder layer; the last two are several of them stored as one."""

    Q = "q"
    K = "k"
    V = "v"
    O = "o"  # noqa: E741
    GATE = "gate"
    UP = "up"
    DOWN = "down"
    QKV = "qkv"
    GATE_UP = "gate_up"


MERGED: Mapping[Part, tuple[Part, ...]] = {
    Part.QKV: (Part.Q, Part.K, Part.V),
    Part.GATE_UP: (Part.GATE, Part.UP),
}
"""Whose rows lie one below the other in a linear that stands for several."""


FULL, SLIDING = (
    "full_attention",
    "sliding_attention",
)  # what transformers calls layers without and with a window
ATTENTION = frozenset({Part.Q, Part.K, Part.V, Part.O})


@dataclass(frozen=True)
class Names:
    """Templates of tensor names; `{layer}` stands for the number of the layer. `linears` are those that are stored.

    The post norms are of what attention and MLP add to the residual stream; most families have none. Without an
    `ffn_norm` attention and MLP read one norm. `head_bias`: where the head has one.

    All but the head's begin with `stem`, which files of models without a head may leave away.
    """

    stem: str = "model."
    embedding: str = "model.embed_tokens.weight"
    head: str = "lm_head.weight"
    head_bias: str = ""
    final_norm: str = "model.norm.weight"
    attention_norm: str = "model.layers.{layer}.input_layernorm.weight"
    ffn_norm: str = "model.layers.{layer}.post_attention_layernorm.weight"
    query_norm: str = "model.layers.{layer}.self_attn.q_norm.weight"
    key_norm: str = "model.layers.{layer}.self_attn.k_norm.weight"
    attention_post_norm: str = ""
    ffn_post_norm: str = ""
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
        "model.layers.*.self_attn.rotary_emb.inv_freq",
        "model.rotary_emb.inv_freq",
    )

    @property
    def gated(self) -> bool:
        """Whether a gate multiplies what goes up."""
        return not self.linears.keys().isdisjoint({Part.GATE, Part.GATE_UP})

    def under(self, stem: str) -> Names:
        """The same tensors with another stem."""
        own = self.stem

        def moved(name: str) -> str:
            return stem + name.removeprefix(own) if name.startswith(own) else name

        texts = {
            each.name: moved(value)
            for each in fields(self)
            if isinstance(value := getattr(self, each.name), str)
        }
        linears = {part: moved(name) for part, name in self.linears.items()}
        return Names(**texts, linears=linears, buffers=tuple(map(moved, self.buffers)))

    def linear(self, part: Part, layer: int) -> str:
        """The prefix of `.weight` and `.bias`."""
        return self.linears[part].format(layer=layer)


def norm_bias(gain: str) -> str:
    """The bias beside a norm's gain."""
    return f"{gain.removesuffix('.weight')}.bias"


LLAMA_NAMES = Names()
