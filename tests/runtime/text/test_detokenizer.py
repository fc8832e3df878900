"""The pieces of a stream are the text of all its ids, and no piece splits a character."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.data import real

from hearth.runtime.text.detokenizer import REPLACEMENT, Detokenizer
from hearth.runtime.text.tokenizer import Tokenizer, parse_tokenizer

FOLDERS = {
    "gpt2": "tokenizers",
    "Qwen2": "tokenizers",
    "phi-3": "tokenizers",
    "stories3M": "checkpoints",
    "stories260K": "checkpoints",
}
NAMES = pytest.mark.parametrize("name", ["hearthside", *FOLDERS])
HEARTHSIDE = Path(__file__).parents[3] / "models/hearthside"
TRICKY = (
    "", " ", "  ", "\n", " a", "a ", "  two  spaces  ", "Hello, world!", "naïve café", "日本語のテキスト",
    "😀", "a😀b", "👩‍👩‍👧‍👦 family", "🇩🇪🇫🇷", "e\u0301", "\u200b", "Привет, мир", "नमस्ते", "ก็", "\ufeffbom",
    "tab\tand\r\nline", "\U0001d518\U0001d52b", "\U0010fffd", "ﷺ", "1234567890", "don't", "<s>", "</s> a",
    "<|endoftext|>x", "<0xE2>", "▁▁", "\x00\x01\x7f", "a" * 300, " " * 70, "🙂" * 20, "x \ufffd y", "\ufffd",
)  # fmt: skip
TEXTS = st.text(max_size=60) | st.text(st.characters(min_codepoint=0x1F000, max_codepoint=0x1FAFF))


@cache
def tokenizer(name: str) -> Tokenizer:
    folder = HEARTHSIDE if name == "hearthside" else real(FOLDERS[name], name)
    config = folder / "tokenizer_config.json"
    return parse_tokenizer((folder / "tokenizer.json").read_bytes(), config.read_bytes())


def pieces(name: str, ids: list[int], before: list[int] | None = None) -> list[str]:
    stream = Detokenizer(tokenizer(name).decode, before or [])
    return [*(stream.push(token) for token in ids), stream.flush()]


def agree(name: str, text: str) -> None:
    ids = tokenizer(name).encode(text)
    found = pieces(name, ids)
    assert "".join(found) == tokenizer(name).decode(ids)
    if REPLACEMENT not in text:
        assert not any(REPLACEMENT in piece for piece in found)


@NAMES
@pytest.mark.parametrize("text", TRICKY, ids=ascii)
def test_pieces_are_the_text(name: str, text: str) -> None:
    agree(name, text)


@NAMES
@settings(max_examples=150, deadline=None)
@given(text=TEXTS)
def test_pieces_are_any_text(name: str, text: str) -> None:
    agree(name, text)


@NAMES
@settings(max_examples=100, deadline=None)
@given(prompt=TEXTS, text=TEXTS)
def test_a_stream_goes_on_from_a_prompt(name: str, prompt: str, text: str) -> None:
    """The pieces after a prompt are what the whole text has beyond it, leading space and all."""
    before = tokenizer(name).encode(prompt)
    ids = before + tokenizer(name).encode(text, add_special_tokens=False)
    start = tokenizer(name).decode(before)
    whole = tokenizer(name).decode(ids)
    if start:
        assert start + "".join(pieces(name, ids[len(before) :], before)) == whole


@pytest.mark.parametrize("name", ["hearthside", "gpt2", "Qwen2"])
@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_byte_level_pieces_are_the_text_of_any_ids(name: str, data: st.DataObject) -> None:
    """Byte-level decoders turn any bytes into text, so this holds for ids no text would give."""
    vocab = tokenizer(name).backend.get_vocab_size()
    ids = data.draw(st.lists(st.integers(0, 255) | st.integers(0, vocab - 1), max_size=30))
    assert "".join(pieces(name, ids)) == tokenizer(name).decode(ids)


@pytest.mark.parametrize("name", ["hearthside", "gpt2", "Qwen2"])
@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_broken_bytes_without_end_are_given_too(name: str, data: st.DataObject) -> None:
    """All of them, and characters among them, whole; what is read for a token stays short."""
    lengths = [0]

    def decode(ids: Sequence[int]) -> str:
        lengths.append(len(ids))
        return tokenizer(name).decode(ids)

    parts = st.binary(max_size=2) | st.sampled_from([each.encode() for each in "é€🙂"])
    broken = st.sampled_from([b"\xf0\x9f", b"\xe2\x82", b"\xff", b"\xc3", b"\x82\xac"])
    text = b"".join(data.draw(st.lists(broken | broken | parts, min_size=20, max_size=80)))
    ids = [byte_ids(name)[byte] for byte in text]
    stream = Detokenizer(decode)
    found = [*(stream.push(token) for token in ids), stream.flush()]
    assert "".join(found) == tokenizer(name).decode(ids)
    assert max(lengths) <= 32


@cache
def byte_ids(name: str) -> dict[int, int]:
    """The token of each byte, of a byte-level tokenizer (whose letters for bytes are GPT-2's)."""
    backend = tokenizer(name).backend
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in shown]
    letters = {byte: chr(byte) for byte in shown}
    letters |= {byte: chr(256 + place) for place, byte in enumerate(others)}
    found = {byte: backend.token_to_id(letter) for byte, letter in letters.items()}
    return {byte: id for byte, id in found.items() if id is not None}


def test_broken_bytes_leave_what_was_given() -> None:
    """phi-3 spells unknown characters in byte tokens; a lone first byte is a replacement character."""
    euro = [tokenizer("phi-3").token_id(f"<0x{byte:02X}>") for byte in "€".encode()]
    lone, word = tokenizer("phi-3").token_id("<0xF0>"), tokenizer("phi-3").token_id("▁word")
    ids = [token for token in (*euro, lone, word) if token is not None]
    assert len(ids) == 5
    assert pieces("phi-3", ids) == ["", "", "€", "", f"{REPLACEMENT} word", ""]


@NAMES
@pytest.mark.parametrize("before", ["x" + "😀" * 9, "</s>" * 20, "a" + "</s>" * 20], ids=ascii)
def test_a_stream_goes_on_from_many_byte_tokens_or_none(name: str, before: str) -> None:
    ids = tokenizer(name).encode(before)
    for cut in range(8):
        more = tokenizer(name).encode("🙂" * 3, add_special_tokens=False)
        start, end = ids[cut:], tokenizer(name).decode(ids[cut:] + more)
        known = tokenizer(name).decode(start)
        if known and REPLACEMENT not in known:
            assert known + "".join(pieces(name, more, start)) == end


def test_a_word_is_given_at_once() -> None:
    ids = tokenizer("hearthside").encode("Once upon a time")
    found = [piece for piece in pieces("hearthside", ids) if piece]
    assert found[0] == "Once"
    assert "".join(found) == "Once upon a time"


def test_long_streams_keep_a_short_window() -> None:
    lengths = []

    def decode(ids: object) -> str:
        assert isinstance(ids, list)
        lengths.append(len(ids))
        return tokenizer("hearthside").decode(ids)

    ids = tokenizer("hearthside").encode("A sentence of several words, again and again. " * 20)
    stream = Detokenizer(decode)
    for token in ids:
        stream.push(token)
    assert max(lengths) <= 2
