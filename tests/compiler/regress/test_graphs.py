"""ONNX sources under regression: what stays ONNX is replayed within its bound, what is raised counts to the bit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import numpy_helper
from support.command_line import hearth

from hearth.compiler.frontend.onnx import rules

GRAPHS = Path(__file__).parent.parent.parent / "goldens/graphs"
Capture = pytest.CaptureFixture[str]


@pytest.fixture
def folder(tmp_path: Path, capsys: Capture) -> Path:
    place = tmp_path / "recipes"
    place.mkdir()
    for name in ("general", "decoder"):
        text = f'source = "{GRAPHS}/{name}.onnx"\ntarget = "x86-64-v3"\nweights = "f32"\n'
        (place / f"{name}.toml").write_text(text)
    assert hearth("regress", place, "--update") == 0
    capsys.readouterr()
    return place


def parts(folder: Path, capsys: Capture, name: str) -> tuple[int, list[str]]:
    code = hearth("regress", folder, "--json", "--only", name)
    (outcome,) = json.loads(capsys.readouterr().out)["recipes"]
    return code, outcome["parts"]


def edit(folder: Path, name: str, change: Any) -> None:
    """Change the recorded cases of a graph."""
    path = folder / f"{name}.golden.json"
    held = json.loads(path.read_text())
    change(held["golden"]["graphs"][0])
    path.write_text(json.dumps(held))


def test_a_graph_run_by_onnxruntime_may_differ_within_its_bound(
    folder: Path, capsys: Capture
) -> None:
    def moved(share: float) -> Any:
        def change(case: dict[str, Any]) -> None:
            scores = case["outputs"]["scores"]
            scores["sha256"] = "0" * 64
            scores["values"][0] += share * case["tolerance"] * scores["largest"]

        return change

    held = json.loads((folder / "general.golden.json").read_text())
    assert "golden" not in held["sections"], "its bytes are onnxruntime's"
    edit(folder, "general", moved(0.5))
    assert parts(folder, capsys, "general") == (0, [])
    edit(folder, "general", moved(2.0))
    assert parts(folder, capsys, "general") == (8, ["golden"])


def test_a_recorded_input_that_is_gone_is_a_change(folder: Path, capsys: Capture) -> None:
    def change(case: dict[str, Any]) -> None:
        case["inputs"]["picture"] = case["inputs"].pop("image")

    edit(folder, "general", change)
    assert parts(folder, capsys, "general") == (8, ["golden"])


def test_a_rule_that_no_longer_matches_is_seen(
    folder: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The decoder is no decoder any more."""
    monkeypatch.setattr(rules, "RULES", {k: v for k, v in rules.RULES.items() if k[1] != "MatMul"})
    code, found = parts(folder, capsys, "decoder")
    assert code == 8
    assert found[:2] == ["manifest", "program"]
    assert "graph" in found


def test_another_weight_of_the_graph_is_seen(folder: Path, tmp_path: Path, capsys: Capture) -> None:
    model = onnx.load(GRAPHS / "decoder.onnx")
    tensor = next(each for each in model.graph.initializer if each.name == "down_proj.weight")
    values = numpy_helper.to_array(tensor).copy()
    values[1, 2] += 0.25
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    source = tmp_path / "decoder.onnx"
    onnx.save(model, source)
    recipe = folder / "decoder.toml"
    recipe.write_text(recipe.read_text().replace(f"{GRAPHS}/decoder.onnx", str(source)))
    code, found = parts(folder, capsys, "decoder")
    assert (code, found) == (8, ["manifest", "tensors", "golden"])
