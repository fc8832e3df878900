"""The rules by operator: the first that fits raises the node.

A rule is a function `rule(node, raising) -> View | Scores | tuple of them, one per output` in a file of its own here,
with a line in RULES (and in EAGER if it makes activations of weights). It reads its operands by `raising.view(name)`
(data: raised first if need be), `raising.vector` / `raising.scalar` / `raising.constants.matrix` (constants) and
`raising.probes.sizes` / `.constant` / `.values` (what depends on shapes and positions alone), makes IR ops, and gives a
view of them (`views.as_view(op, dims)`). Where it does not apply it raises Mismatch(why), or Unsuited(why) where the
operands are another rule's; the next rule is tried, and the reasons are shown to who compiles. Attention with its
cache: `cache.appended(past_view, new_view, ...)`, then `raising.layers.attend(q, k, v, scale, Seen(...))`. Weights
stored in quantised form: a rule in WEIGHTS.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hearth.compiler.frontend.onnx.constants import WeightRule
from hearth.compiler.frontend.onnx.model import Node
from hearth.compiler.frontend.onnx.raising import Rule
from hearth.compiler.frontend.onnx.regions import REGION_OPS
from hearth.compiler.frontend.onnx.rules import (
    attention,
    cache,
    dequantised,
    elementwise,
    embed_norm,
    embedding,
    fused_activation,
    fused_attention,
    fused_matmul,
    fused_norm,
    group_query,
    linear,
    moving,
    nbits,
    skip_norm,
    standard_attention,
    turning,
)
from hearth.compiler.frontend.onnx.rules.region import region

MICROSOFT = "com.microsoft"
Key = tuple[str, str]  # domain ("" is the standard), operator

RULES: Mapping[Key, Sequence[Rule]] = {
    ("", "Add"): (attention.mask, elementwise.shift, region, elementwise.add),
    ("", "Cast"): (moving.cast,),
    ("", "Concat"): (cache.append, moving.concat, region),
    ("", "Div"): (elementwise.div, region),
    ("", "Dropout"): (moving.same,),
    ("", "Expand"): (moving.expand,),
    ("", "Flatten"): (moving.flatten,),
    ("", "Gather"): (embedding.gather, moving.gather, region),
    ("", "Gemm"): (linear.gemm,),
    ("", "Identity"): (moving.same,),
    ("", "MatMul"): (linear.matmul, attention.scores, attention.weighted),
    ("", "Mul"): (elementwise.gain, region, elementwise.mul),
    ("", "Neg"): (elementwise.neg,),
    ("", "Reshape"): (moving.reshape, region),
    ("", "Slice"): (moving.slice_, region),
    ("", "Softmax"): (attention.softmax,),
    ("", "Split"): (moving.split,),
    ("", "Squeeze"): (moving.squeeze, region),
    ("", "Transpose"): (moving.transpose, region),
    ("", "Unsqueeze"): (moving.unsqueeze, region),
    ("", "Where"): (attention.choose, region),
    ("", "Gelu"): (fused_activation.gelu,),
    ("", "LayerNormalization"): (fused_norm.layer_normalization,),
    ("", "RMSNormalization"): (fused_norm.rms_normalization,),
    ("", "RotaryEmbedding"): (turning.rotary_embedding, region),
    ("", "Attention"): (standard_attention.attention,),
    ("", "SimplifiedLayerNormalization"): (fused_norm.rms_normalization,),
    (MICROSOFT, "Attention"): (fused_attention.attention,),
    (MICROSOFT, "BiasGelu"): (fused_activation.bias_gelu,),
    (MICROSOFT, "EmbedLayerNormalization"): (embed_norm.embed_layer_normalization,),
    (MICROSOFT, "FastGelu"): (fused_activation.fast_gelu,),
    (MICROSOFT, "FusedMatMul"): (
        fused_matmul.by_weight,
        fused_matmul.scores,
        fused_matmul.weighted,
    ),
    (MICROSOFT, "GatherBlockQuantized"): (nbits.gather_block_quantized,),
    (MICROSOFT, "Gelu"): (fused_activation.gelu,),
    (MICROSOFT, "GroupQueryAttention"): (group_query.group_query_attention,),
    (MICROSOFT, "MatMulNBits"): (nbits.mat_mul_n_bits,),
    (MICROSOFT, "MultiHeadAttention"): (fused_attention.multi_head_attention,),
    (MICROSOFT, "RotaryEmbedding"): (turning.rotary_embedding,),
    (MICROSOFT, "SimplifiedLayerNormalization"): (fused_norm.rms_normalization,),
    (MICROSOFT, "SkipLayerNormalization"): (skip_norm.skip_layer_normalization,),
    (MICROSOFT, "SkipSimplifiedLayerNormalization"): (skip_norm.skip_simplified,),
}
WEIGHTS: Mapping[Key, WeightRule] = {
    ("", "DequantizeLinear"): dequantised.dequantize_linear,
    (MICROSOFT, "DequantizeLinear"): dequantised.dequantize_linear,
}
EAGER: frozenset[Key] = frozenset(
    {
        ("", "Attention"),
        ("", "Gather"),
        ("", "Gemm"),
        ("", "MatMul"),
        ("", "Softmax"),
        (MICROSOFT, "Attention"),
        (MICROSOFT, "FusedMatMul"),
        (MICROSOFT, "GatherBlockQuantized"),
        (MICROSOFT, "GroupQueryAttention"),
        (MICROSOFT, "MatMulNBits"),
        (MICROSOFT, "MultiHeadAttention"),
    }
)


def rules_of(node: Node) -> Sequence[Rule]:
    """The rules for a node, in order."""
    found = RULES.get((node.domain, node.op_type))
    if found is not None:
        return found
    return (region,) if node.op_type in REGION_OPS else ()


def is_eager(node: Node) -> bool:
    """Whether the node is raised at its turn; the others when something reads them."""
    return (node.domain, node.op_type) in EAGER
