"""A text of megabytes is refused at once; one that may fit is left to the tokenizer."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import Archives

from hearth.runtime import load
from hearth.runtime.serving.lengths import check_length
from hearth.schemas.errors import InputError


def test_a_text_that_cannot_fit_is_refused(archives: Archives) -> None:
    model = load(Path(archives("hearthside", weights="int8", activations="dynamic")), threads=1)
    check_length(model, "word " * 400)
    longest = max(model.tokenizer.backend.get_vocab(), key=len)
    check_length(model, longest * model.context)
    with pytest.raises(InputError, match=r"input\.context_full"):
        check_length(model, "word " * 2_000_000)
