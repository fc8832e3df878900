"""What lies beside a graph: config.json or genai_config.json, the tokenizer and its kin."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hearth.compiler.frontend.assets import ASSET_FILES
from hearth.compiler.frontend.blueprint import DEFAULT_CONTEXT, choose_context
from hearth.compiler.frontend.json_files import parse_object, read_bytes
from hearth.compiler.frontend.onnx.find import GENAI

CONFIG = "config.json"
LENGTHS = ("max_position_embeddings", "n_positions", "n_ctx", "context_length")


@dataclass(frozen=True)
class Beside:
    """`values` in the keys of config.json; `files` are those that are there."""

    directory: Path
    values: Mapping[str, Any]
    files: tuple[Path, ...]

    @property
    def family(self) -> str:
        """The model's kind, as the files call it."""
        found = self.values.get("model_type")
        return found if isinstance(found, str) and found else "onnx"

    def context(self, asked: int | None) -> int:
        """The context that was asked for, or what the files suggest."""
        lengths = [self.values[key] for key in LENGTHS if type(self.values.get(key)) is int]
        limit = next((length for length in lengths if length > 0), None)
        if limit is None:
            limit, suggested = max(asked or 0, DEFAULT_CONTEXT), DEFAULT_CONTEXT
        else:
            suggested = limit
        return choose_context(asked, limit, suggested, str(self.directory))


def read_beside(graph: Path) -> Beside:
    """The folder of the graph, or the one above where the tokenizer and config are there."""
    directory = graph.parent
    if not _has_any(directory) and _has_any(directory.parent):
        directory = directory.parent
    files = tuple(directory / name for name in (CONFIG, GENAI, *ASSET_FILES))
    return Beside(directory, _values(directory), tuple(path for path in files if path.exists()))


def _has_any(directory: Path) -> bool:
    return any((directory / name).exists() for name in (CONFIG, GENAI, ASSET_FILES[0]))


def _values(directory: Path) -> Mapping[str, Any]:
    """config.json, over what genai_config.json says of the same."""
    values: dict[str, Any] = {}
    genai = read_bytes(directory / GENAI)
    if genai is not None:
        match parse_object(genai, directory / GENAI):
            case {"model": dict(model)}:
                keys = ("bos_token_id", "eos_token_id", "context_length")
                values |= {key: model[key] for key in keys if key in model}
                values["model_type"] = model.get("type")
    config = read_bytes(directory / CONFIG)
    if config is not None:
        values |= parse_object(config, directory / CONFIG)
    return values
