"""Answers that must call, drawn at random by letters, and how answers may be cut into pieces."""

from __future__ import annotations

import random
from functools import cache
from typing import Any

import numpy as np
from tokenizers import AddedToken, Tokenizer, decoders, models

from hearth.runtime.grammar import Grammars
from hearth.runtime.text.tokenizer import Tokenizer as Reader
from hearth.runtime.tools import ToolFormat, call_wish, read_tools

LETTERS = [chr(code) for code in range(32, 127)] + ["\n"]
END = len(LETTERS) + 1


@cache
def reader(special: bool) -> Reader:
    """Letters, a token for Hermes' opening that is special or not, and an end."""
    backend = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(LETTERS)}, merges=[]))
    backend.decoder = decoders.Fuse()
    add = backend.add_special_tokens if special else backend.add_tokens
    add([AddedToken("<tool_call>", special=special)])
    backend.add_special_tokens([AddedToken("<end>")])
    return Reader(backend, {})


def answer(
    format: ToolFormat, special: bool, tools: list[dict[str, Any]], seed: int, **how: bool
) -> str:
    """Random tokens of those allowed."""
    tokenizer, draw = reader(special), random.Random(seed)
    marks = format.special_marks(tokenizer)
    wish = call_wish(format, read_tools(tools), marks, **how)
    constraint = Grammars(tokenizer, END + 1, (END,)).constraint(wish)
    ids: list[int] = []
    while not constraint.done:
        words = constraint.allowed()
        allowed = np.flatnonzero(np.unpackbits(words.view(np.uint8), bitorder="little"))
        ids.append(int(draw.choice(allowed)))
        constraint.accept(ids[-1])
    return format.decode(tokenizer)([id for id in ids if id != END])


def cut(text: str, draw: random.Random) -> list[str]:
    pieces = []
    while text:
        size = draw.choice((1, 1, 2, 5, 20, len(text)))
        pieces.append(text[:size])
        text = text[size:]
    return pieces
