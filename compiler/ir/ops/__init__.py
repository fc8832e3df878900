"""The ops: frozen dataclasses; an op is the tensor it makes, compared by identity, its type computed and checked.

All activations are matrices [rows, columns]; heads lie side by side in the columns ([T, H * D]), so no
reshape exists. The numpy meaning of each op is in meanings.py. This is the list of them: one file for each kind.
"""

from hearth.compiler.ir.ops.attention import Attention, KVWrite, RoPE
from hearth.compiler.ir.ops.base import IRError, Op, tensor
from hearth.compiler.ir.ops.elementwise import (
    Activate,
    Add,
    Elementwise,
    Gated,
    Mul,
    Scale,
    SoftCap,
)
from hearth.compiler.ir.ops.norms import (
    HeadNorm,
    L2Normalize,
    LayerNorm,
    LayerNormQuantize,
    RMSNorm,
    RMSNormQuantize,
)
from hearth.compiler.ir.ops.parts import LastRows, Pool, Slice
from hearth.compiler.ir.ops.products import (
    Embedding,
    Hadamard,
    Linear,
    PositionEmbedding,
    Quantize,
)
from hearth.compiler.ir.ops.sources import (
    INTEGERS,
    Cache,
    Constant,
    Input,
    Position,
    Tokens,
)

__all__ = [
    "INTEGERS",
    "Activate",
    "Add",
    "Attention",
    "Cache",
    "Constant",
    "Elementwise",
    "Embedding",
    "Gated",
    "Hadamard",
    "HeadNorm",
    "IRError",
    "Input",
    "KVWrite",
    "L2Normalize",
    "LastRows",
    "LayerNorm",
    "LayerNormQuantize",
    "Linear",
    "Mul",
    "Op",
    "Pool",
    "Position",
    "PositionEmbedding",
    "Quantize",
    "RMSNorm",
    "RMSNormQuantize",
    "RoPE",
    "Scale",
    "Slice",
    "SoftCap",
    "Tokens",
    "tensor",
]
