"""A small model of the same vocabulary that writes a little ahead, greedily."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from hearth.runtime.session import Session
from hearth.schemas import sections
from hearth.schemas.errors import UsageError

if TYPE_CHECKING:
    from hearth.runtime.model import Model


class DraftModel:
    """Guesses by a session of its own, which follows the text and takes back what was not right."""

    def __init__(self, session: Session[Any]) -> None:
        self._session = session

    def guess(self, tokens: Sequence[int], count: int) -> Sequence[int]:
        """None beyond the draft's own context."""
        session = self._session
        if count < 1 or len(tokens) + count - 1 > session.context:
            return ()
        session.rewind(min(self._known(tokens), len(tokens) - 1))
        logits = session.prefill(tokens[session.position :])
        guesses = [int(logits.argmax())]
        while len(guesses) < count:
            guesses.append(int(session.decode(guesses[-1]).argmax()))
        return guesses

    def forget(self) -> None:
        """Nothing to do: what the next text shares with this one is found by itself."""

    def _known(self, tokens: Sequence[int]) -> int:
        """How many of the tokens the session has read: often all it has but the last guesses."""
        read = self._session.tokens
        if tuple(tokens[: len(read)]) == read:
            return len(read)
        return self._session.shared(tokens)


def check_fits(draft: Model, model: Model) -> None:
    """UsageError `arguments.draft` for a model whose ids mean other text than the model's."""
    if _vocabulary(draft) != _vocabulary(model):
        raise UsageError(
            "arguments.draft",
            f"the draft {draft.archive.path.name} has another tokenizer than {model.archive.path.name}",
            expected="an archive of the same family, whose ids mean the same text",
            remedy="use a smaller model of the same family, or lookup",
        )


def _vocabulary(model: Model) -> object:
    """What its ids mean; their number alone where the archive has no tokenizer."""
    if not model.has_tokenizer:
        return model.vocab
    return model.part(sections.TOKENIZER) and model.tokenizer.backend.get_vocab()
