"""The bytes of each token are those that the tokenizer itself decodes."""

from __future__ import annotations

import json
from unicodedata import normalize

import pytest
from support.data import real
from tokenizers import AddedToken, Tokenizer, decoders, models

from hearth.runtime.grammar.vocabulary import Vocabulary, read_vocabulary
from hearth.runtime.text.tokenizer import Tokenizer as Reader
from hearth.runtime.text.tokenizer import parse_tokenizer
from hearth.schemas.errors import InputError

NAMES = (
    "checkpoints/stories3M",
    "checkpoints/stories260K",
    "tokenizers/gpt2",
    "tokenizers/phi-3",
    "tokenizers/Qwen2",
)
TEXTS = ('{"name": "Zoë", "age": 7}', "日本語 🙂\n\ttabs", "", " leading", "a\u0301 e\u0301")


def read(name: str) -> Reader:
    place = real(name)
    return parse_tokenizer(
        (place / "tokenizer.json").read_bytes(), (place / "tokenizer_config.json").read_bytes()
    )


def vocabulary(tokenizer: Reader, more: int = 0) -> Vocabulary:
    return read_vocabulary(tokenizer, tokenizer.backend.get_vocab_size() + more, 2)


@pytest.mark.parametrize("name", NAMES)
def test_bytes_are_what_the_tokenizer_decodes(name: str) -> None:
    tokenizer = read(name)
    tokens = vocabulary(tokenizer).tokens
    (anchor,) = tokenizer.encode("a", add_special_tokens=False)[
        -1:
    ]  # a first token loses its space
    before = len(tokenizer.decode([anchor]))
    special = {
        id for id, token in tokenizer.backend.get_added_tokens_decoder().items() if token.special
    }
    for id in set(range(len(tokens))) - special:
        decoded = tokenizer.decode([anchor, id])[before:]
        assert tokens[id].decode(errors="replace") == decoded, (id, tokens[id])


@pytest.mark.parametrize("name", NAMES)
def test_the_bytes_of_a_text_are_those_of_its_tokens(name: str) -> None:
    tokenizer = read(name)
    tokens = vocabulary(tokenizer).tokens
    for text in TEXTS:
        ids = tokenizer.encode(text, add_special_tokens=False)
        made = b"".join(tokens[id] for id in ids).decode()
        whole = normalize("NFC", text)  # as Qwen's tokenizer does
        assert made in (text, whole, f" {text}")  # SentencePiece begins with a space


@pytest.mark.parametrize("name", NAMES)
def test_forced_text_is_cut_as_the_model_reads_it(name: str) -> None:
    tokenizer = read(name)
    words = vocabulary(tokenizer)
    for text in TEXTS:
        ids = words(text.encode())
        assert b"".join(words.tokens[id] for id in ids).decode() == text
    assert words(b"name") == words("name")
    assert len(words(b" was")) < 4  # not byte by byte


def test_padding_of_the_model_has_no_bytes() -> None:
    words = vocabulary(read("checkpoints/stories260K"), more=100)
    assert set(words.tokens[512:]) == {b""}


def test_an_added_token_is_spelled_as_the_decoder_does() -> None:
    backend = Tokenizer(models.BPE(vocab={"a": 0, "Ġ": 1, "Ċ": 2, "é": 3}, merges=[]))
    backend.decoder = decoders.ByteLevel()
    backend.add_tokens([AddedToken("<tool call>", special=False), AddedToken("<x>", special=False)])
    backend.add_special_tokens([AddedToken("<end>", special=True)])
    words = vocabulary(Reader(backend, {}))
    assert words.tokens == [b"a", b" ", b"\n", b"\xe9", b"<tool call>", b"<x>", b"<end>"]
    assert words.special_token_ids == [6]
    assert backend.decode([0, 4, 5]) == "a<tool call><x>"


def test_a_decoder_that_joins_words_is_refused_by_name() -> None:
    for decoder in (decoders.WordPiece(), None):
        backend = Tokenizer(models.WordLevel({"a": 0}, unk_token="a"))
        if decoder is not None:
            backend.decoder = decoder
        with pytest.raises(InputError) as found:
            vocabulary(Reader(backend, {}))
        assert found.value.code == "grammar.tokenizer"
        assert json.dumps("WordPiece" if decoder else "none")[1:-1] in str(found.value)
