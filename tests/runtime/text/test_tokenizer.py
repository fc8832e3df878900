"""Ids are those that other tools find; special tokens are added as the checkpoint's files say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.data import DATA, real

from hearth.runtime.text.tokenizer import Tokenizer, parse_tokenizer, special_texts
from hearth.schemas.errors import ArchiveError, InputError

HEARTHSIDE = Path(__file__).parents[3] / "models" / "hearthside" / "tokenizer.json"


def read(folder: str, config: dict[str, object] | None = None) -> Tokenizer:
    place = real(folder)
    given = (place / "tokenizer_config.json").read_bytes()
    changed = given if config is None else json.dumps(json.loads(given) | config).encode()
    return parse_tokenizer((place / "tokenizer.json").read_bytes(), changed)


@pytest.mark.parametrize("name", ["gpt2", "Qwen2", "phi-3"])
def test_ids_equal_those_of_another_implementation(name: str) -> None:
    """expected.out holds the ids that llama.cpp's own tests expect."""
    tokenizer = read(f"tokenizers/{name}")
    folder = DATA / "tokenizers" / name
    texts = (folder / "expected.inp").read_text().split("\n__ggml_vocab_test__\n")[:-1]
    lines = (folder / "expected.out").read_text().splitlines()
    assert len(texts) == len(lines)
    for text, line in zip(texts, lines, strict=True):
        ids = [int(word) for word in line.split()]
        assert tokenizer.encode(text, add_special_tokens=False) == ids, repr(text)


def test_the_post_processor_decides_about_bos() -> None:
    plain = read("checkpoints/stories3M").encode("a", add_special_tokens=False)
    assert read("checkpoints/stories3M").encode("a") == [1, *plain]
    assert read("checkpoints/stories3M", {"add_bos_token": False}).encode("a") == [1, *plain]
    assert read("tokenizers/phi-3", {"add_bos_token": True}).encode("a")[0] != 1


def test_bos_and_eos_ids() -> None:
    tokenizer = read("checkpoints/stories3M")
    assert (tokenizer.bos_id, tokenizer.eos_id) == (1, 2)
    assert read("tokenizers/gpt2").bos_id is None


def test_special_tokens_are_skipped_in_text() -> None:
    tokenizer = read("checkpoints/stories3M")
    ids = [*tokenizer.encode("Once"), 2]
    assert tokenizer.decode(ids) == "Once"
    assert tokenizer.decode(ids, skip_special_tokens=False).endswith("</s>")


def test_named_special_tokens_may_be_objects() -> None:
    config = {
        "bos_token": {"content": "<s>", "lstrip": False},
        "eos_token": "</s>",
        "pad_token": None,
    }
    assert special_texts(config) == {"bos_token": "<s>", "eos_token": "</s>"}


def test_the_vocabulary_never_grows() -> None:
    plain = read("checkpoints/stories3M")
    more = read("checkpoints/stories3M", {"pad_token": "<no such token>"})
    assert more.backend.get_vocab_size() == plain.backend.get_vocab_size()


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b'{"model": 1}', b"\xff"])
def test_a_tokenizer_that_cannot_be_read_is_refused(data: bytes) -> None:
    with pytest.raises(ArchiveError) as refused:
        parse_tokenizer(data)
    assert refused.value.code == "archive.tokenizer"


@pytest.mark.parametrize("config", [b"{", b"[]", b"\xff"])
def test_a_config_that_cannot_be_read_is_refused(config: bytes) -> None:
    place = real("checkpoints/stories260K/tokenizer.json")
    with pytest.raises(ArchiveError) as refused:
        parse_tokenizer(place.read_bytes(), config)
    assert refused.value.code == "archive.tokenizer"


def test_a_lone_surrogate_is_refused() -> None:
    with pytest.raises(InputError) as refused:
        read("checkpoints/stories260K").encode("a\ud800")
    assert refused.value.code == "input.text"


def test_a_text_that_the_tokenizer_cannot_read_is_the_users_error() -> None:
    """Its unknown-word token is not in its vocabulary."""
    model = {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "<unk>"}
    content = {"version": "1.0", "model": model, "pre_tokenizer": {"type": "Whitespace"}}
    tokenizer = parse_tokenizer(json.dumps(content).encode())
    assert tokenizer.encode("a a") == [0, 0]
    for read_text in (tokenizer.encode, lambda text: tokenizer.encode_pair(text, None)):
        with pytest.raises(InputError) as caught:
            read_text("b")
        assert caught.value.code == "input.not_encoded"


def changed(**parts: object) -> bytes:
    """The demo's tokenizer.json with other parts."""
    return json.dumps(json.loads(HEARTHSIDE.read_text()) | parts).encode()


def replacing(pattern: dict[str, str], content: str) -> dict[str, object]:
    return {"type": "Replace", "pattern": pattern, "content": content}


def test_trap_a_panic_of_the_library_is_an_error_like_others() -> None:
    """They are no `Exception`s: one would end the thread that serves everybody."""
    prefix = json.loads(HEARTHSIDE.read_text())["model"] | {"continuing_subword_prefix": "#" * 300}
    with pytest.raises(ArchiveError, match="cannot be read") as refused:
        parse_tokenizer(changed(model=prefix))
    assert refused.value.code == "archive.tokenizer"
    endless = {
        "type": "Split",
        "pattern": {"Regex": "(a+)+$"},
        "behavior": "Isolated",
        "invert": False,
    }
    tokenizer = parse_tokenizer(changed(pre_tokenizer=endless))
    with pytest.raises(InputError) as failed:
        tokenizer.encode("a" * 40 + "!")
    assert failed.value.code == "input.not_encoded"


@pytest.mark.parametrize(
    "normalizer",
    [
        replacing({"Regex": "a"}, "b" * 1000),
        replacing({"String": ""}, "b" * 100),
        {"type": "Sequence", "normalizers": [replacing({"String": "a"}, "aa")] * 40},
    ],
    ids=["long", "everywhere", "doubling"],
)
def test_rules_that_would_fill_the_memory_are_refused(normalizer: dict[str, object]) -> None:
    with pytest.raises(ArchiveError, match="times as long") as refused:
        parse_tokenizer(changed(normalizer=normalizer))
    assert refused.value.code == "archive.tokenizer"
