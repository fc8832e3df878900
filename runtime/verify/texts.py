"""Tokenizer and chat-template vectors: texts and chats with what the archive's own files make of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

from hearth.runtime.text.chat_template import ChatTemplate
from hearth.runtime.text.tokenizer import Tokenizer
from hearth.schemas.errors import HearthError
from hearth.schemas.golden import ChatCase, TextCase, Turn


def clock() -> datetime:
    """The time that templates see here: some write today's date."""
    return datetime(2024, 1, 1)


def text_case(tokenizer: Tokenizer, text: str) -> TextCase:
    """A text there and back, its special tokens shown."""
    ids = tokenizer.encode(text)
    return TextCase(text, tuple(ids), tokenizer.decode(ids, skip_special_tokens=False))


def chat_case(
    template: ChatTemplate, tokenizer: Tokenizer | None, turns: Sequence[Turn], add_prompt: bool
) -> ChatCase:
    """A chat as text and, where there is a tokenizer, as ids. `template` should have the clock above."""
    messages = [{"role": turn.role, "content": turn.content} for turn in turns]
    try:
        text = template.render(messages, add_generation_prompt=add_prompt)
        ids = () if tokenizer is None else tokenizer.encode(text, add_special_tokens=False)
    except HearthError as error:
        return ChatCase(tuple(turns), add_prompt, "", (), error.code)
    return ChatCase(tuple(turns), add_prompt, text, tuple(ids), "")


def text_differences(found: TextCase, wanted: TextCase) -> Iterator[str]:
    """What two encodings of a text do not share."""
    if found.ids != wanted.ids:
        yield f"{wanted.text[:40]!r} {_where(found.ids, wanted.ids)}"
    elif found.decoded != wanted.decoded:
        yield f"{wanted.text[:40]!r} comes back as {found.decoded[:40]!r}, recorded {wanted.decoded[:40]!r}"


def chat_differences(found: ChatCase, wanted: ChatCase) -> Iterator[str]:
    """What two renderings of a chat do not share."""
    roles = "+".join(turn.role for turn in wanted.turns)
    what = f"a chat of {roles}"
    if found.error != wanted.error:
        yield f"{what} gives {found.error or 'a text'}, recorded {wanted.error or 'a text'}"
    elif found.text != wanted.text:
        place = _first(found.text, wanted.text)
        at = slice(max(place - 8, 0), place + 24)
        yield f"{what} reads {found.text[at]!r} at {place}, recorded {wanted.text[at]!r}"
    elif found.ids != wanted.ids:
        yield f"{what} {_where(found.ids, wanted.ids)}"


def _where(found: Sequence[int], wanted: Sequence[int]) -> str:
    place = _first(found, wanted)
    at = slice(place, place + 4)
    return f"has the ids {list(found[at])} at {place}, recorded {list(wanted[at])}"


def _first(found: Sequence[object], wanted: Sequence[object]) -> int:
    """The first place where two sequences differ."""
    pairs = enumerate(zip(found, wanted, strict=False))
    return next((at for at, (a, b) in pairs if a != b), min(len(found), len(wanted)))
