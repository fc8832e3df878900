"""Assets: the tokenizer, chat template and generation defaults that travel with the weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hearth.compiler.frontend.json_files import parse_object, read_bytes
from hearth.schemas.errors import CheckpointError

ASSET_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "generation_config.json",
    "chat_template.jinja",
)
NO_TOKENIZER = "no tokenizer.json: the archive runs on token ids only"
ONLY_SENTENCEPIECE = (
    "tokenizer.model alone is not read, so the archive runs on token ids only; to have text, write a "
    "tokenizer.json: AutoTokenizer.from_pretrained(DIR).save_pretrained(DIR)"
)


@dataclass(frozen=True)
class Assets:
    """File contents as found, the ids that begin and end a text, and remarks for the user."""

    tokenizer_json: bytes | None
    tokenizer_config: bytes | None
    chat_template: str | None
    generation_config: bytes | None
    bos_id: int | None = None
    eos_ids: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()
    instructions: bytes | None = None


def read_assets(directory: Path, config: Mapping[str, Any], vocab: int) -> Assets:
    """What the directory has; all of it may be missing."""
    tokenizer, tokenizer_notes = _tokenizer(directory, vocab)
    tokenizer_config, settings = _object(directory / "tokenizer_config.json")
    generation_config, generation = _object(directory / "generation_config.json")
    bos, bos_notes = _ids("bos_token_id", generation, config, vocab)
    eos, eos_notes = _ids("eos_token_id", generation, config, vocab)
    return Assets(
        tokenizer_json=tokenizer,
        tokenizer_config=tokenizer_config,
        chat_template=_chat_template(directory, settings),
        generation_config=generation_config,
        bos_id=bos[0] if bos else None,
        eos_ids=eos,
        notes=(*tokenizer_notes, *bos_notes, *eos_notes),
    )


def _object(path: Path) -> tuple[bytes | None, Mapping[str, Any]]:
    content = read_bytes(path)
    return content, {} if content is None else parse_object(content, path)


def _tokenizer(directory: Path, vocab: int) -> tuple[bytes | None, tuple[str, ...]]:
    path = directory / "tokenizer.json"
    content = read_bytes(path)
    if content is None:
        sentencepiece = (directory / "tokenizer.model").exists()
        return None, (ONLY_SENTENCEPIECE if sentencepiece else NO_TOKENIZER,)
    values = parse_object(content, path)
    if not isinstance(values.get("model"), dict):
        raise CheckpointError(
            "checkpoint.tokenizer_invalid",
            "no `model`",
            expected="a tokenizer of the `tokenizers` library",
            where=str(path),
        )
    last = _last_id(values)
    if last >= vocab:
        return content, (f"tokenizer.json has ids up to {last}, the model only {vocab} rows",)
    return content, ()


def _last_id(values: Mapping[str, Any]) -> int:
    """The largest token id of a tokenizer.json."""
    vocabulary, added = values["model"].get("vocab"), values.get("added_tokens")
    listed = added if isinstance(added, list) else []
    ids = [item.get("id") for item in listed if isinstance(item, dict)]
    match vocabulary:
        case dict():
            ids += vocabulary.values()
        case list():
            ids.append(len(vocabulary) - 1)
    return max((item for item in ids if isinstance(item, int)), default=-1)


def _chat_template(directory: Path, settings: Mapping[str, Any]) -> str | None:
    """chat_template.jinja, or `chat_template` of tokenizer_config.json: a string, or named ones."""
    path = directory / "chat_template.jinja"
    content = read_bytes(path)
    if content is not None:
        try:
            return content.decode("utf-8")
        except UnicodeDecodeError:
            raise _bad_template(path, "not UTF-8", "text") from None
    where = directory / "tokenizer_config.json"
    match settings.get("chat_template"):
        case None:
            return None
        case str(template):
            return template
        case list(named):
            return _default_template(named, where)
        case other:
            raise _bad_template(where, f"chat_template is a {type(other).__name__}", "a string")


def _default_template(named: list[Any], where: Path) -> str:
    names: list[str] = []
    for item in named:
        match item:
            case {"name": "default", "template": str(template)}:
                return template
            case {"name": str(name)}:
                names.append(name)
    found = f"chat_template has {', '.join(names) or 'no templates'}"
    raise _bad_template(where, found, "one named default")


def _bad_template(where: Path, found: str, expected: str) -> CheckpointError:
    return CheckpointError("checkpoint.chat_template", found, expected=expected, where=str(where))


def _ids(
    key: str, generation: Mapping[str, Any], config: Mapping[str, Any], vocab: int
) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """The ids of generation_config.json, else of config.json: a number or a list; bad ones are noted."""
    first, second = generation.get(key), config.get(key)
    value = second if first is None else first
    listed = value if isinstance(value, list) else [] if value is None else [value]
    good = [item for item in listed if type(item) is int and 0 <= item < vocab]
    notes = [f"{key} {item!r} is no token id: ignored" for item in listed if item not in good]
    return tuple(dict.fromkeys(good)), tuple(notes)
