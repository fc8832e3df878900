"""Texts that cannot fit a context are refused before they are cut into tokens, which takes seconds for megabytes."""

from __future__ import annotations

from hearth.runtime.model import Model
from hearth.schemas.errors import InputError

SHRINKING = 4  # how many characters a normaliser may make one of; NFKC composes up to three


def check_length(model: Model, text: str) -> None:
    """InputError `input.context_full` where even the longest tokens would be more than the context."""
    least = least_tokens(model, text)
    if least > model.context:
        raise InputError(
            "input.context_full",
            f"a text of {len(text)} characters, which is more than {least} tokens",
            expected=f"at most {model.context}, the context this archive was compiled for",
            remedy="shorten the prompt, or compile with a larger --context",
        )


def least_tokens(model: Model, text: str) -> int:
    """A number that the text's tokens are not fewer than; 0 for a text that may fit the context."""
    if len(text) <= model.context:
        return 0
    return len(text) // (SHRINKING * _longest(model))


def _longest(model: Model) -> int:
    """Characters of the vocabulary's longest token."""
    return max(map(len, model.tokenizer.backend.get_vocab(with_added_tokens=True)), default=1)
