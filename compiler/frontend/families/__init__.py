"""The known families, one short file each.

To add one whose block is Llama's (norm, attention, norm, gated MLP) or differs in what `RotaryFamily` and its `Names`
have as data (kinds and places of norms, biases, windows, no gate, linears stored as one): a file with its
`RotaryFamily` here and its line in the table; a new window rule goes to windows.py. An encoder like BERT is an
`EncoderFamily`. One with a block of its own brings a class with a `blueprint` (gpt2.py). Then a case in tests/parity.
"""

from __future__ import annotations

from collections.abc import Mapping

from hearth.compiler.frontend.blueprint import Family
from hearth.compiler.frontend.families.bert import BERT, DISTILBERT, ROBERTA, XLM_ROBERTA
from hearth.compiler.frontend.families.gemma import GEMMA, GEMMA2, GEMMA3_TEXT
from hearth.compiler.frontend.families.gemma3 import GEMMA3
from hearth.compiler.frontend.families.gpt2 import GPT2
from hearth.compiler.frontend.families.llama import LLAMA
from hearth.compiler.frontend.families.mistral import MISTRAL
from hearth.compiler.frontend.families.phi import PHI
from hearth.compiler.frontend.families.phi3 import PHI3
from hearth.compiler.frontend.families.qwen2 import QWEN2
from hearth.compiler.frontend.families.qwen3 import QWEN3
from hearth.compiler.frontend.families.stablelm import STABLELM
from hearth.compiler.frontend.fields import Fields, shorten
from hearth.schemas.errors import CheckpointError

__all__ = ["FAMILIES", "find_family"]

_ALL: tuple[Family, ...] = (
    LLAMA,
    MISTRAL,
    QWEN2,
    QWEN3,
    PHI,
    PHI3,
    STABLELM,
    GEMMA,
    GEMMA2,
    GEMMA3_TEXT,
    GEMMA3,
    GPT2,
    BERT,
    ROBERTA,
    XLM_ROBERTA,
    DISTILBERT,
)
FAMILIES: Mapping[str, Family] = {family.model_type: family for family in _ALL}


NOT_COMPILED: Mapping[str, str] = {
    "qwen3_moe": "its layers choose among experts: the dense models of qwen3 are compiled",
    "qwen2_moe": "its layers choose among experts: the dense models of qwen2 are compiled",
    "mixtral": "its layers choose among experts: the dense models of mistral are compiled",
    "phimoe": "its layers choose among experts: the dense models of phi3 are compiled",
    "phi3small": "its attention leaves out blocks: Phi-3-mini and -medium are compiled",
}
"""Relatives of known families, with what keeps them from being compiled."""


def find_family(fields: Fields) -> Family:
    """The family of a config's `model_type`, if it is of an architecture that the family serves."""
    model_type = fields.text("model_type")
    if model_type not in FAMILIES:
        raise CheckpointError(
            "family.unknown",
            f"model_type {model_type!r} is not known",
            expected=" or ".join(FAMILIES),
            where=fields.where,
            remedy=NOT_COMPILED.get(
                model_type,
                "a family is one file of data: to add one, see compiler/frontend/families/llama.py "
                "and name it in families/__init__.py",
            ),
        )
    family = FAMILIES[model_type]
    names = fields.strings("architectures")
    known = (*family.architectures, *family.bodies)
    if names is not None and not set(names) & set(known):
        raise CheckpointError(
            "family.architecture",
            f"architectures = {shorten(list(names))} of model_type {model_type!r}",
            expected=" or ".join(known),
            where=fields.where,
            remedy="only causal language models and text encoders are compiled",
        )
    return family
