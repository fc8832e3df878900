"""`quantization_config` of a checkpoint: how GPTQ and AWQ pack the codes of its linears into words of 32 bits."""

from __future__ import annotations

from dataclasses import dataclass

from hearth.compiler.frontend.fields import Fields

METHODS = ("gptq", "awq")
GPTQ_ZERO_OFFSETS = {"gptq": 1, "gptq_v2": 0}  # by checkpoint_format
AWQ_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)  # the channel of each nibble of a word, the low one first
REMEDY = "compile the model it was made of"


@dataclass(frozen=True)
class Coding:
    """Words hold values along K (GPTQ) or along N (AWQ), the low bits first, each word's values in `order`.

    `order` empty: as they come. `zero_offset` is what stored zero points are too small by, modulo 2^bits.
    """

    along_k: bool
    zero_offset: int = 0
    order: tuple[int, ...] = ()


GPTQ = {name: Coding(True, offset) for name, offset in GPTQ_ZERO_OFFSETS.items()}
AWQ = Coding(False, 0, AWQ_ORDER)


def read_coding(fields: Fields) -> Coding | None:
    """How the codes of a checkpoint lie; None where it has floats. What no layout holds is refused by name."""
    values = fields.take("quantization_config")
    if values is None or values is False:
        return None
    if not isinstance(values, dict):
        raise fields.invalid("quantization_config", "an object")
    own = Fields(values, f"{fields.where}, quantization_config")
    match own.text("quant_method", ""):
        case "gptq":
            return _gptq(own)
        case "awq":
            return _awq(own)
    raise fields.unsupported("quantization_config", f"the method {' or '.join(METHODS)}", REMEDY)


def _gptq(fields: Fields) -> Coding:
    stored = fields.text("checkpoint_format", "") or fields.text("format", "") or "gptq"
    if stored not in GPTQ:
        raise fields.unsupported("checkpoint_format", " or ".join(GPTQ), REMEDY)
    if fields.text("pack_dtype", "int32") != "int32":
        raise fields.unsupported("pack_dtype", "int32", REMEDY)
    return GPTQ[stored]


def _awq(fields: Fields) -> Coding:
    if fields.text("version", "gemm").lower() != "gemm":
        raise fields.unsupported("version", "gemm", REMEDY)
    return AWQ
