"""Text to ids and back, by the tokenizer.json in the archive, with special tokens as transformers adds them.

That file's post-processor decides which tokens (BOS) a text gets; `add_bos_token` of the config is ignored, as
transformers ignores it where there is a tokenizer.json.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hearth.runtime.text.foreign import foreign
from hearth.schemas.errors import ArchiveError, InputError

if TYPE_CHECKING:
    from tokenizers import AddedToken
    from tokenizers import Tokenizer as Backend

# The named special tokens a chat template may use.
SPECIAL_NAMES = (
    "bos_token",
    "eos_token",
    "unk_token",
    "sep_token",
    "pad_token",
    "cls_token",
    "mask_token",
)
# What describes an added token in tokenizer_config.json.
ADDED_FLAGS = ("content", "single_word", "lstrip", "rstrip", "normalized", "special")
MOST_GROWTH = (
    64.0  # of a text by the rules that replace parts of it; published ones make it 3 times as long
)


@dataclass(frozen=True)
class Encoded:
    """ids[T] of a text or a pair, and for each which of the two texts it belongs to (0 or 1)."""

    ids: Sequence[int]
    types: Sequence[int]


@dataclass(frozen=True)
class Tokenizer:
    """`encode` and `decode` of one model; `special` holds the text of its named special tokens.

    `side` is where a text too long is cut: "right" (its end) or "left".
    """

    backend: Backend
    special: Mapping[str, str]
    side: str = "right"

    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        """ids[T] of a text, with the tokens the model's post-processor adds (BOS) unless told otherwise."""
        _check_text(text)
        with foreign(_not_encoded):
            found = self.backend.encode(text, add_special_tokens=add_special_tokens)
        return list(found.ids)

    def encode_pair(self, first: str, second: str | None) -> Encoded:
        """One text or two, with the tokens and types of the model's post-processor."""
        for text in (first, second or ""):
            _check_text(text)
        with foreign(_not_encoded):
            found = self.backend.encode(first, second)
        return Encoded(found.ids, found.type_ids)

    def truncated(self, length: int) -> Tokenizer:
        """This tokenizer, from now on cutting what is longer than `length` tokens, special ones included.

        Of a pair the longer text loses first, as transformers cuts with truncation=True. Changes the backend that
        it shares with this one.
        """
        special = self.backend.num_special_tokens_to_add(True)
        if special >= length:
            raise InputError(
                "input.context_full",
                f"the {special} special tokens of a pair leave no room for text",
                expected=f"fewer than {length}, the context this archive was compiled for",
                remedy="compile with a larger --context, or give token ids",
            )
        self.backend.enable_truncation(length, strategy="longest_first", direction=self.side)
        return self

    def decode(self, ids: Sequence[int], *, skip_special_tokens: bool = True) -> str:
        """The text of ids, all at once (detokenizer.py does it piece by piece)."""
        with foreign(_unusable("cannot write these ids as text")):
            return self.backend.decode(ids, skip_special_tokens=skip_special_tokens)

    def token_id(self, text: str) -> int | None:
        """The id of a token given by its text."""
        return self.backend.token_to_id(text)

    @property
    def bos_id(self) -> int | None:
        """The id of the named beginning-of-sequence token."""
        return self._special_id("bos_token")

    @property
    def eos_id(self) -> int | None:
        """The id of the named end-of-sequence token."""
        return self._special_id("eos_token")

    def _special_id(self, name: str) -> int | None:
        text = self.special.get(name)
        return None if text is None else self.token_id(text)


def _not_encoded(words: str) -> InputError:
    """A tokenizer may name an unknown-word token that its vocabulary lacks: words it knows are read, others are not."""
    return InputError(
        "input.not_encoded",
        f"the model's tokenizer cannot read this text: {words}",
        expected="text of words that it knows",
        remedy="give token ids, or compile a checkpoint whose tokenizer has a token for unknown words",
    )


def _unusable(what: str) -> Callable[[str], ArchiveError]:
    return lambda words: ArchiveError(
        "archive.tokenizer",
        f"the tokenizer {what}: {words}",
        expected="a tokenizer.json of Hugging Face tokenizers",
        remedy="compile the model again from a checkpoint whose tokenizer.json loads",
    )


def _check_text(text: str) -> None:
    """Refuse lone surrogates, which undecodable bytes on a command line become."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InputError(
            "input.text",
            f"the text holds {text[error.start]!a} at index {error.start}",
            expected="text that UTF-8 can hold",
        ) from None


def parse_tokenizer(tokenizer_json: bytes, tokenizer_config: bytes | None = None) -> Tokenizer:
    """Read the two files of a checkpoint. Slow for large vocabularies (0.4 s for 150,000 entries)."""
    from tokenizers import Tokenizer as Backend

    with foreign(_unusable("cannot be read")):
        backend = Backend.from_buffer(tokenizer_json)  # from_str holds 50 MB more
    _check_growth(backend)
    backend.no_truncation()
    backend.no_padding()
    config = parse_config(tokenizer_config)
    special = special_texts(config)
    _add_tokens(backend, config, special)
    side = "left" if config.get("truncation_side") == "left" else "right"
    return Tokenizer(backend, special, side)


def _check_growth(backend: Backend) -> None:
    """Refuse rules that make a text many times as long: a few of them would fill any memory."""
    for part in (backend.normalizer, backend.decoder):
        growth = 1 if part is None else _growth(json.loads(part.__getstate__()))
        if growth > MOST_GROWTH:
            raise _unusable("cannot be used")(f"its rules make a text {growth:.3g} times as long")


def _growth(rule: Mapping[str, Any]) -> float:
    """How many times as long a text gets, at most, by what a rule puts in the place of something."""
    match rule:
        case {"type": "Sequence", "normalizers": list(parts)} | {"decoders": list(parts)}:
            return math.prod(map(_growth, parts))
        case {"type": "Replace", "pattern": {"String": str(old)}, "content": str(new)}:
            return max(1.0, len(new) / max(len(old), 1))
        case {"type": "Replace", "content": str(new)} | {"type": "Prepend", "prepend": str(new)}:
            return max(1.0, len(new))
    return 1.0


def parse_config(data: bytes | None) -> Mapping[str, Any]:
    """A JSON object of the checkpoint; empty where there is none."""
    try:
        config = json.loads(data) if data else {}
    except ValueError as error:
        config = error
    if not isinstance(config, dict):
        raise ArchiveError(
            "archive.tokenizer",
            f"tokenizer_config.json is not a JSON object: {config!s:.100}",
            remedy="compile the model again from a checkpoint with a valid tokenizer_config.json",
        )
    return config


def special_texts(config: Mapping[str, Any]) -> dict[str, str]:
    """Named special tokens: a text, or an object that holds it as `content`."""
    found = {}
    for name in SPECIAL_NAMES:
        match config.get(name):
            case str(text) | {"content": str(text)}:
                found[name] = text
    return found


def _add_tokens(backend: Backend, config: Mapping[str, Any], special: Mapping[str, str]) -> None:
    """Tokens the config describes or names, where tokenizer.json does not hold them as added ones.

    No vocabulary grows by this: a text without an id is left alone.
    """
    listed = config.get("added_tokens_decoder")
    described = list(listed.values()) if isinstance(listed, dict) else []
    tokens = [
        _added_token({flag: token[flag] for flag in ADDED_FLAGS if flag in token})
        for token in described
        if isinstance(token, dict) and "content" in token
    ]
    present = {token.content: repr(token) for token in backend.get_added_tokens_decoder().values()}
    named = {token.content for token in tokens} | set(present)
    tokens += [
        _added_token({"content": text, "special": True})
        for text in dict.fromkeys(special.values())
        if text not in named
    ]
    for token in tokens:
        new = present.get(token.content) != repr(token)
        if new and backend.token_to_id(token.content) is not None:
            add = backend.add_special_tokens if token.special else backend.add_tokens
            add([token])


def _added_token(fields: Mapping[str, Any]) -> AddedToken:
    from tokenizers import AddedToken

    try:
        return AddedToken(**fields)
    except (TypeError, UnicodeEncodeError):
        raise ArchiveError(
            "archive.tokenizer",
            f"tokenizer_config.json describes a token as {dict(fields)!a:.100}",
            expected="a text as content, true or false for the rest",
            remedy="compile the model again from a checkpoint with a valid tokenizer_config.json",
        ) from None
