"""ONNX sources of every kind against their archives: the very file runs in onnxruntime, fed by its inputs' roles."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.command_line import ROOT, hearth
from support.data import real

from hearth.compiler.check.onnx_source import open_onnx_source
from hearth.schemas.manifest import Dims

GRAPHS = ROOT / "tests/goldens/graphs"
FLOATS = ("--weights", "f32", "--kv", "f32")
Captured = pytest.CaptureFixture[str]


def total(source: Path, output: Path, capsys: Captured, *options: object) -> dict[str, Any]:
    """The figures of all inputs together."""
    assert hearth("compile", source, "-o", output, "--check", "--json", *options) == 0
    events = map(json.loads, capsys.readouterr().out.splitlines())
    found: dict[str, Any] = next(event for event in events if event["event"] == "accuracy")
    return dict(found["total"])


def test_a_decoder(tmp_path: Path, capsys: Captured) -> None:
    found = total(GRAPHS / "decoder.onnx", tmp_path / "m.har", capsys, *FLOATS)
    assert found["top1"] == 1.0
    assert found["relative"] <= 2e-4
    coarse = total(GRAPHS / "decoder.onnx", tmp_path / "m.har", capsys, "--weights", "int4")
    assert coarse["kld_mean"] > found["kld_mean"]


def test_an_encoder(tmp_path: Path, capsys: Captured) -> None:
    found = total(GRAPHS / "encoder.onnx", tmp_path / "m.har", capsys, *FLOATS, "--context", 32)
    assert found["relative"] <= 2e-4
    assert found["cosine"] >= 0.9999
    assert found["kld_mean"] is None


def test_quantised_weights_against_what_onnxruntime_makes_of_them(
    tmp_path: Path, capsys: Captured
) -> None:
    found = total(GRAPHS / "nbits.onnx", tmp_path / "m.har", capsys, *FLOATS)
    assert found["relative"] <= 2e-4


def test_a_general_graph(tmp_path: Path, capsys: Captured) -> None:
    found = total(GRAPHS / "general.onnx", tmp_path / "m.har", capsys)
    assert found["rows"] > 0
    assert found["relative"] <= 2e-4
    assert found["top1"] is None


@pytest.mark.parametrize("name", ["capp-gpt2", "ort-genai-tiny/tiny-random-gpt2-fp32"])
def test_real_decoders(name: str, tmp_path: Path, capsys: Captured) -> None:
    found = total(real("onnx", name), tmp_path / "m.har", capsys, *FLOATS)
    assert found["top1"] == 1.0
    assert found["relative"] <= 2e-4


def test_a_result_of_no_such_size_is_none() -> None:
    source = open_onnx_source(GRAPHS / "decoder.onnx", Dims(1, 1, 1, 1, 1, 1, 1), 1)
    ids = {name: np.zeros(3, np.int32) for name in ("tokens", "types")}
    assert source.result(ids, 7) is None
