"""Element types of tensors, in the IR and in checkpoints."""

from __future__ import annotations

from enum import StrEnum


class DType(StrEnum):
    """Element types; W8 and W4 are quantised weights (a scheme says how), Q8 quantised activation rows.

    G8 and G4 are weights with a float scale and a zero point per group, as other tools quantise them.
    """

    F32 = "f32"
    F16 = "f16"
    BF16 = "bf16"
    I32 = "i32"
    I64 = "i64"
    Q8 = "q8"
    W8 = "w8"
    W4 = "w4"
    G8 = "g8"
    G4 = "g4"
    KV = "kv"
