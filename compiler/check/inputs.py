"""What source and archive both run for the accuracy check: texts where there is a tokenizer, else drawn ids."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hearth.compiler.check.samples import LONG, SHORT, TEXTS
from hearth.runtime.text.tokenizer import Tokenizer
from hearth.runtime.verify.draws import draw_ids
from hearth.schemas.errors import InputError, UsageError, reason
from hearth.schemas.recipe import Gate

Ids = NDArray[np.int32]
SEED = 2
TOKENS = 256
WINDOW = 128  # tokens of one prompt at most


@dataclass(frozen=True)
class CheckOptions:
    """`text` is a UTF-8 file (None: the texts of samples.py), `tokens` how many are run in all."""

    text: Path | None = None
    tokens: int = TOKENS
    gate: Gate = field(default_factory=Gate)


@dataclass(frozen=True)
class Prompt:
    """Token ids [T], and what the report calls them."""

    name: str
    ids: Ids


def windows(
    options: CheckOptions, tokenizer: Tokenizer | None, vocab: int, context: int
) -> list[Prompt]:
    """A decoder's prompts: the text cut into windows, one after the other, until there are enough tokens."""
    if options.tokens < 1:
        raise UsageError(
            "arguments.check_tokens", f"{options.tokens} tokens", expected="at least 1"
        )
    found = draw_ids(SEED, "check", options.tokens, vocab)
    if tokenizer is not None:
        text = "\n".join((SHORT, LONG, *TEXTS)) if options.text is None else read_text(options.text)
        found = [each for each in tokenizer.encode(text) if each < vocab][: options.tokens] or found
    elif options.text is not None:
        raise _no_tokenizer()
    size = min(WINDOW, context)
    cut = [found[start : start + size] for start in range(0, len(found), size)]
    return [
        Prompt(f"tokens {place * size} to {place * size + len(ids) - 1}", np.array(ids, np.int32))
        for place, ids in enumerate(cut)
    ]


def lines(
    options: CheckOptions, tokenizer: Tokenizer | None, vocab: int, context: int
) -> list[Prompt]:
    """An encoder's texts: one a line, each cut to the context, until there are enough tokens."""
    if tokenizer is None:
        return windows(options, None, vocab, min(context, 16))
    texts = (SHORT, LONG, *TEXTS) if options.text is None else read_text(options.text).splitlines()
    found: list[Prompt] = []
    left = options.tokens
    for text in filter(str.strip, texts):
        ids = [each for each in tokenizer.encode(text) if each < vocab][: min(context, left)]
        if ids:
            found.append(Prompt(repr(text[:24]), np.array(ids, np.int32)))
            left -= len(ids)
        if left <= 0:
            break
    return found


def read_text(path: Path) -> str:
    """The text of `--check-text`."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            "arguments.check_text", reason(error), where=str(path),
            expected="a file of UTF-8 text",
        ) from None  # fmt: skip
    if not text.strip():
        raise UsageError(
            "arguments.check_text", "it is empty", where=str(path), expected="a file of UTF-8 text"
        )
    return text


def _no_tokenizer() -> InputError:
    return InputError(
        "input.not_in_archive",
        "there is no tokenizer to read --check-text with",
        remedy="leave it out: drawn ids are run, --check-tokens of them",
    )
