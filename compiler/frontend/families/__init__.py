"""The known families, one short file each.

To add one whose block is Llama's (norm, attention, norm, gated MLP): a file with its `Family` here and its line in
FAMILIES; a new window or bias rule goes to windows.py or `bias_keys`; then a case in tests/parity.
"""

from __future__ import annotations

from collections.abc import Mapping

from hearth.compiler.frontend.families.family import Family, Names, Part
from hearth.compiler.frontend.families.llama import LLAMA
from hearth.compiler.frontend.families.mistral import MISTRAL
from hearth.compiler.frontend.families.qwen2 import QWEN2
from hearth.schemas.errors import CheckpointError

__all__ = ["FAMILIES", "Family", "Names", "Part", "find_family"]

FAMILIES: Mapping[str, Family] = {family.model_type: family for family in (LLAMA, MISTRAL, QWEN2)}


def find_family(model_type: str, where: str) -> Family:
    """The family of a `model_type`."""
    if model_type not in FAMILIES:
        raise CheckpointError(
            "family.unknown",
            f"model_type {model_type!r} is not known",
            expected=" or ".join(FAMILIES),
            where=where,
            remedy="a family is one file of data: to add one, see compiler/frontend/families/llama.py "
            "and name it in families/__init__.py",
        )
    return FAMILIES[model_type]
