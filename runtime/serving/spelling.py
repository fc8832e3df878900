"""The bytes of single tokens, for log probabilities."""

from __future__ import annotations

from collections.abc import Callable

from hearth.runtime.grammar.vocabulary import token_speller
from hearth.runtime.model import Model
from hearth.schemas.errors import InputError


def speller(model: Model) -> Callable[[int], bytes]:
    """Of a token's id; of a tokenizer whose tokens stand for no fixed bytes, those of the token's text alone."""
    try:
        return token_speller(model.tokenizer)
    except InputError:
        return lambda token: model.tokenizer.decode([token], skip_special_tokens=False).encode()
