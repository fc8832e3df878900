"""Element types of tensors, in the IR and in checkpoints."""

from __future__ import annotations

from enum import StrEnum


class DType(StrEnum):
    """Element types; W8 and W4 are quantised weights (a scheme says how), Q8 quantised activation rows.

    T2 to T6 are weights of 2 to 6 bits whose codes stand for the levels of the tensor's table.
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
    T2 = "t2"
    T3 = "t3"
    T4 = "t4"
    T5 = "t5"
    T6 = "t6"
    G8 = "g8"
    G4 = "g4"
    KV = "kv"
