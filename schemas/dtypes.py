"""Element types of tensors, in the IR and in checkpoints."""

from __future__ import annotations

from enum import StrEnum


class DType(StrEnum):
    """Element types; W8 and W4 are quantised weights (a scheme says how), Q8 quantised activation rows."""

    F32 = "f32"
    F16 = "f16"
    BF16 = "bf16"
    I32 = "i32"
    I64 = "i64"
    Q8 = "q8"
    W8 = "w8"
    W4 = "w4"
    KV = "kv"
