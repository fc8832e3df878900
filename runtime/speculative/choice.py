"""What a caller names as a draft, as something that guesses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Union

from hearth.runtime.speculative.draft_model import DraftModel, check_fits
from hearth.runtime.speculative.drafter import Drafter
from hearth.runtime.speculative.lookup import PromptLookup
from hearth.schemas.errors import UsageError

if TYPE_CHECKING:
    from hearth.runtime.model import Model

Draft = Union[Drafter, "Model", Literal["lookup"]]


def drafter_of(draft: Draft, model: Model) -> Drafter:
    """One for one text at a time. UsageError `arguments.draft` for a model of another tokenizer or another word."""
    from hearth.runtime.model import Model as Loaded

    if isinstance(draft, Loaded):
        check_fits(draft, model)
        return DraftModel(draft.session())
    if isinstance(draft, str):
        if draft == "lookup":
            return PromptLookup()
        raise UsageError(
            "arguments.draft", f"the draft {draft!r}", expected="lookup, or a loaded model"
        )
    return draft
