"""Which bytes each token stands for, by the decoder of the model's own tokenizer.json.

A grammar is followed byte by byte, and a token may hold half a character, so the text that `decode` gives of one
token alone does not do. Read are decoders of the kind of byte-level BPE (GPT-2, Llama 3, Qwen) and of
SentencePiece with byte fallback (Llama 2, Phi-3); others join words with rules of their own.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from hearth.schemas.errors import InputError

if TYPE_CHECKING:
    from hearth.runtime.text.tokenizer import Tokenizer

Step = Callable[[str | bytes], str | bytes]  # bytes are final: no later step reads them

BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")
MARK = "\x02"  # in no merge of any vocabulary: what follows it is cut as if inside a text


@dataclass(frozen=True)
class Vocabulary:
    """tokens[V] as bytes (empty where the id is no token of a text) and the ids of special tokens.

    `bos_token_id`, `tokens`, `special_token_ids` and the call are what llguidance reads of a tokenizer.
    """

    tokens: Sequence[bytes]
    special_token_ids: Sequence[int]
    eos_token_id: int
    encode: Callable[[str], Sequence[int]]
    bos_token_id: int | None = None

    def __call__(self, text: bytes | str) -> list[int]:
        """The ids of a piece of text that a grammar leaves no choice about, as the model would cut it."""
        data = text.encode() if isinstance(text, str) else text
        start = list(self.encode(MARK))
        ids = list(self.encode(MARK + data.decode(errors="ignore")))
        rest = ids[len(start) :]
        whole = ids[: len(start)] == start and b"".join(self.tokens[id] for id in rest) == data
        return rest if whole else [self._single[byte] for byte in data if byte in self._single]

    @cached_property
    def _single(self) -> Mapping[int, int]:
        """The tokens of one byte, for what the tokenizer would normalise."""
        return {token[0]: id for id, token in enumerate(self.tokens) if len(token) == 1}


def read_vocabulary(tokenizer: Tokenizer, size: int, eos: int) -> Vocabulary:
    """The tokens 0 to size - 1; InputError `grammar.tokenizer` where they stand for no fixed bytes."""
    backend = tokenizer.backend
    spell = _speller(json.loads(backend.decoder.__getstate__()) if backend.decoder else None)
    special = {id for id, token in backend.get_added_tokens_decoder().items() if token.special}
    tokens = [b""] * size
    for text, id in backend.get_vocab(with_added_tokens=True).items():
        if id < size:
            tokens[id] = text.encode() if id in special else spell(text)
    return Vocabulary(
        tokens,
        sorted(id for id in special if id < size),
        eos,
        lambda text: tokenizer.encode(text, add_special_tokens=False),
    )


def token_speller(tokenizer: Tokenizer) -> Callable[[int], bytes]:
    """From an id to its bytes (a special token's are its text); InputError `grammar.tokenizer` as above."""
    backend = tokenizer.backend
    spell = _speller(json.loads(backend.decoder.__getstate__()) if backend.decoder else None)
    special = {id for id, token in backend.get_added_tokens_decoder().items() if token.special}

    def spell_id(token: int) -> bytes:
        text = backend.id_to_token(token) or ""
        return text.encode() if token in special else spell(text)

    return spell_id


def _speller(decoder: Mapping[str, Any] | None) -> Callable[[str], bytes]:
    """From a token's entry in the vocabulary to its bytes."""
    steps = _steps(decoder)

    def spell(text: str) -> bytes:
        piece: str | bytes = text
        for step in steps:
            piece = step(piece)
        return piece if isinstance(piece, bytes) else piece.encode()

    return spell


def _steps(decoder: Mapping[str, Any] | None) -> list[Step]:
    """A decoder's parts in order. Those that join tokens or cut the whole text change no token."""
    match decoder:
        case {"type": "Sequence", "decoders": list(parts)}:
            return [step for part in parts for step in _steps(part)]
        case {"type": "ByteLevel"}:
            return [_byte_level]
        case {"type": "ByteFallback"}:
            return [_byte_fallback]
        case {"type": "Replace", "pattern": {"String": str(old)}, "content": str(new)}:
            return [_replace(old, new)]
        case {"type": "Metaspace", "replacement": str(old)}:
            return [_replace(old, " ")]
        case {"type": "Fuse" | "Strip"}:
            return []
    kind = "none" if decoder is None else str(decoder.get("type"))
    raise InputError(
        "grammar.tokenizer",
        f"the model's tokenizer has a decoder ({kind}) whose tokens stand for no fixed bytes",
        expected="byte-level BPE, or SentencePiece with byte fallback",
        remedy="ask without a grammar",
    )


def _replace(old: str, new: str) -> Step:
    return lambda piece: piece if isinstance(piece, bytes) else piece.replace(old, new)


def _byte_fallback(piece: str | bytes) -> str | bytes:
    if isinstance(piece, bytes):
        return piece
    found = BYTE_TOKEN.fullmatch(piece)
    return bytes((int(found[1], 16),)) if found else piece


def _byte_level(piece: str | bytes) -> str | bytes:
    """GPT-2's letters for bytes; a token with any other letter (an added one) stands for itself."""
    if isinstance(piece, bytes):
        return piece
    return piece.translate(LETTERS).encode("latin-1") if ALL_LETTERS(piece) else piece


def _letters() -> dict[int, int]:
    """GPT-2's bytes_to_unicode, turned round: printable Latin-1 as itself, the others from 256 on."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in plain]
    return dict(zip(plain, plain, strict=True)) | {256 + i: byte for i, byte in enumerate(others)}


LETTERS: Mapping[int, int] = _letters()
ALL_LETTERS = re.compile(f"[{re.escape(''.join(map(chr, LETTERS)))}]*").fullmatch
