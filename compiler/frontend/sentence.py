"""Sentence: how a model's rows become the vector of a text, as sentence-transformers' files or the user say.

`modules.json` lists the steps; the folder of its Pooling module has a config.json; `sentence_bert_config.json`
the longest text. Without these files an encoder's rows are averaged, as that library does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from hearth.compiler.frontend.fields import Fields
from hearth.compiler.frontend.json_files import parse_json, read_bytes
from hearth.runtime.text.instructions import parse_instructions
from hearth.schemas.commands import Pooling
from hearth.schemas.errors import CheckpointError
from hearth.schemas.recipe import PoolingName

POOLINGS: Mapping[PoolingName, Pooling | None] = {
    "mean": Pooling.MEAN,
    "cls": Pooling.FIRST,
    "last": Pooling.LAST,
    "max": Pooling.MAX,
    "none": None,
}
_MODES: Mapping[str, PoolingName] = {
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_cls_token": "cls",
    "pooling_mode_lasttoken": "last",
    "pooling_mode_max_tokens": "max",
}
_NAMES: Mapping[str, PoolingName] = {
    "mean": "mean",
    "cls": "cls",
    "lasttoken": "last",
    "max": "max",
}
MODULES, LIMITS = "modules.json", "sentence_bert_config.json"
INSTRUCTIONS = "config_sentence_transformers.json"


@dataclass(frozen=True)
class Sentence:
    """`asked`: the user named the pooling; `named`: a file did.

    `longest`: tokens of a text, 0 where nothing says. `files` were read. `instructions`: a file of texts that may
    stand before others; not `whole`: their tokens are not pooled.
    """

    pooling: PoolingName = "mean"
    normalised: bool = False
    longest: int = 0
    asked: bool = False
    named: bool = False
    files: tuple[Path, ...] = ()
    instructions: bytes | None = None
    whole: bool = True


PLAIN = Sentence()


def read_sentence(directory: Path, asked: PoolingName | None = None) -> Sentence:
    """The files' answer, the user's word first."""
    found = _instructed(directory, _limited(directory, _modules(directory)))
    found = found if asked is None else replace(found, pooling=asked, asked=True)
    if found.instructions is not None and not found.whole and found.pooling not in ("last", "none"):
        raise CheckpointError(
            "sentence.pooling",
            f"pooling {found.pooling} of a text without the prompt before it (include_prompt is false)",
            expected="include_prompt true",
            where=str(directory),
            remedy="pool the last token, or remove the prompts and write them before the texts",
        )
    return found


def _modules(directory: Path) -> Sentence:
    path = directory / MODULES
    content = read_bytes(path)
    if content is None:
        return Sentence()
    steps = parse_json(content, path)
    if not isinstance(steps, list) or not all(isinstance(step, dict) for step in steps):
        raise _invalid(path, f"a {type(steps).__name__}", "a list of objects")
    sentence = Sentence(files=(path,))
    for index, step in enumerate(steps):
        sentence = _step(directory, path, step, index, sentence)
    return sentence


def _step(
    directory: Path, path: Path, step: Mapping[str, Any], index: int, sentence: Sentence
) -> Sentence:
    kind = str(step.get("type")).rpartition(".")[2]
    match kind:
        case "Transformer" if index == 0:
            return sentence
        case "Pooling" if index == 1:
            where = directory / _folder(step, path) / "config.json"
            pooling, whole = _pooling(where)
            files = (*sentence.files, where)
            return replace(sentence, pooling=pooling, named=True, files=files, whole=whole)
        case "Normalize" if index == 2:
            return replace(sentence, normalised=True)
    raise CheckpointError(
        "sentence.module",
        f"step {index} is {step.get('type')!r}",
        expected="Transformer, then Pooling, then perhaps Normalize",
        where=str(path),
        remedy="other steps are not compiled; without modules.json the encoder itself is",
    )


def _folder(step: Mapping[str, Any], path: Path) -> str:
    """A folder inside the model's."""
    folder = step.get("path", "")
    named = isinstance(folder, str) and folder.isprintable()  # no NUL, no half of a surrogate pair
    place = PurePosixPath(folder if named else "..")
    if place.is_absolute() or ".." in place.parts or "\\" in str(place):
        raise _invalid(path, f"path = {folder!r:.200}", "a folder of the model")
    return str(folder)


def _pooling(path: Path) -> tuple[PoolingName, bool]:
    """How rows are pooled, and whether those of a prompt are, too."""
    content = read_bytes(path)
    if content is None:
        raise CheckpointError(
            "checkpoint.file_missing",
            "no such file",
            where=str(path),
            remedy="fetch the whole model",
        )
    values = parse_json(content, path)
    if not isinstance(values, dict):
        raise _invalid(path, f"a {type(values).__name__}", "a JSON object")
    whole = values.get("include_prompt") is not False
    chosen = [key for key, value in values.items() if key.startswith("pooling_mode_") and value]
    named = values.get("pooling_mode")
    if isinstance(named, str) and named in _NAMES:
        return _NAMES[named], whole
    if named is None and len(chosen) == 1 and chosen[0] in _MODES:
        return _MODES[chosen[0]], whole
    raise CheckpointError(
        "sentence.pooling",
        f"pooling by {', '.join(chosen) or named or 'nothing'}",
        expected=f"one of {', '.join(_MODES)}",
        where=str(path),
        remedy="choose another with --pooling, if the model was trained for it",
    )


def _instructed(directory: Path, sentence: Sentence) -> Sentence:
    """With the prompts of the file, where it has any."""
    path = directory / INSTRUCTIONS
    content = read_bytes(path)
    if content is None:
        return sentence
    try:
        found = parse_instructions(content)
    except (ValueError, RecursionError) as error:
        raise _invalid(
            path, str(error)[:200], "prompts by name, as sentence-transformers writes them"
        ) from None
    if not any(found.texts.values()):
        return sentence
    return replace(sentence, instructions=content, files=(*sentence.files, path))


def _limited(directory: Path, sentence: Sentence) -> Sentence:
    path = directory / LIMITS
    content = read_bytes(path)
    if content is None:
        return sentence
    values = parse_json(content, path)
    if not isinstance(values, dict):
        raise _invalid(path, f"a {type(values).__name__}", "a JSON object")
    longest = Fields(values, str(path)).optional_integer("max_seq_length") or 0
    return replace(sentence, longest=longest, files=(*sentence.files, path))


def _invalid(path: Path, found: str, expected: str) -> CheckpointError:
    return CheckpointError("sentence.invalid", found, expected=expected, where=str(path))
