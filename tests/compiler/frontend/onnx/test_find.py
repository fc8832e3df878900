"""Which file of a folder is taken, and what is said where none stands out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hearth.compiler.frontend.onnx.find import find_graph
from hearth.schemas.errors import CheckpointError


def folder(path: Path, *names: str) -> Path:
    for name in names:
        (path / name).touch()
    return path


@pytest.mark.parametrize(
    ("names", "wanted"),
    [
        (("a.onnx", "model.onnx"), "model.onnx"),
        (("decoder_model.onnx", "decoder_model_merged.onnx"), "decoder_model_merged.onnx"),
        (("encoder.onnx",), "encoder.onnx"),
        (("past.onnx", "other.onnx"), "past.onnx"),
    ],
)
def test_usual_names(tmp_path: Path, names: tuple[str, ...], wanted: str) -> None:
    assert find_graph(folder(tmp_path, *names)).name == wanted


def test_genai_config_decides(tmp_path: Path) -> None:
    config = {"model": {"decoder": {"filename": "text.onnx"}}}
    (tmp_path / "genai_config.json").write_text(json.dumps(config))
    assert find_graph(folder(tmp_path, "model.onnx", "text.onnx")).name == "text.onnx"


def test_a_path_in_genai_config_is_no_name(tmp_path: Path) -> None:
    config = {"model": {"decoder": {"filename": "../../etc/passwd"}}}
    (tmp_path / "genai_config.json").write_text(json.dumps(config))
    assert find_graph(folder(tmp_path, "model.onnx")).name == "model.onnx"


@pytest.mark.parametrize("names", [(), ("a.onnx", "b.onnx")])
def test_several_or_none(tmp_path: Path, names: tuple[str, ...]) -> None:
    with pytest.raises(CheckpointError, match=r"onnx\.which") as caught:
        find_graph(folder(tmp_path, *names))
    assert all(name in str(caught.value) for name in names)
