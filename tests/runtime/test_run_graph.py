"""`hearth run` on a graph: arrays from files in, arrays to files out; other options and odd files refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from support.command_line import hearth

from hearth.runtime.commands.run_graph import arrays, write_outputs
from hearth.schemas.errors import HearthError, InputError, ResourceError, UsageError

pytest.importorskip("onnxruntime", reason="the graph's ONNX part runs in onnxruntime")

GRAPH = (
    Path(__file__).parents[1] / "archives" / "v2-graph.har"
)  # the three largest of erf(x), by rows
X = np.random.default_rng(0).standard_normal((2, 6)).astype(np.float32)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "x.npy"
    np.save(path, X)
    return path


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str]:
    exit_code = hearth("run", GRAPH, *arguments)
    return exit_code, capsys.readouterr().err


def test_outputs_are_printed(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert hearth("run", GRAPH, "--input", f"x={file}") == 0
    assert capsys.readouterr().out.startswith("y float32[2, 3] ")


def test_json_holds_the_values(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert hearth("run", GRAPH, "--input", f"x={file}", "--json") == 0
    (found,) = json.loads(capsys.readouterr().out)["outputs"]
    assert (found["name"], found["dtype"], found["shape"]) == ("y", "float32", [2, 3])
    order = np.sort(X, axis=1)[:, :2:-1]
    values = np.array(found["values"], np.float32)
    assert (np.diff(values, axis=1) <= 0).all()
    assert ((values > 0) == (order > 0)).all()  # erf keeps order and sign


def test_outputs_are_written(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "new" / "out"
    command = ("run", GRAPH, "--input", f"x={file}", "--output-dir", folder, "--json")
    assert hearth(*command) == 0
    (found,) = json.loads(capsys.readouterr().out)["outputs"]
    assert found["file"] == str(folder / "y.npy")
    assert np.load(folder / "y.npy").shape == (2, 3)


@pytest.mark.parametrize(
    ("given", "code", "kind"),
    [
        ("x", "arguments.input", UsageError),
        ("=x.npy", "arguments.input", UsageError),
        ("x=no.txt", "arguments.input", UsageError),
        ("x=no.npy", "resource.unreadable", ResourceError),
        ("y={file}", "input.port", InputError),
        ("x={text}", "input.file", InputError),
        ("x={objects}", "input.file", InputError),
        ("x={huge}", "input.file", InputError),
        ("x={flat}", "input.array", InputError),
    ],
)
def test_odd_inputs_are_refused(
    given: str,
    code: str,
    kind: type[HearthError],
    file: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    names = {"file": file} | {
        name: tmp_path / f"{name}.npy" for name in ("text", "objects", "huge", "flat")
    }
    names["text"].write_text("no array")
    np.save(names["objects"], np.array([{}], object), allow_pickle=True)
    np.save(names["flat"], X[0])
    head = {"descr": "<f4", "fortran_order": False, "shape": (1 << 50,)}
    with names["huge"].open("wb") as out:
        np.lib.format.write_array_header_1_0(out, head)
    exit_code, error = refused(capsys, "--input", given.format(**names))
    assert (exit_code, f"[{code}]" in error) == (kind.exit_code, True), error


def test_what_belongs_to_other_kinds_is_refused(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments in (["a prompt"], ["--ids"], ["--pair", "b"], ["--seed", "1"], ["--stats"]):
        exit_code, error = refused(capsys, "--input", f"x={file}", *arguments)
        assert (exit_code, "[arguments.kind]" in error) == (2, True)
    assert refused(capsys)[0] == InputError.exit_code  # no input at all
    assert hearth("bench", GRAPH) == 2
    assert "arguments.kind" in capsys.readouterr().err


def test_names_of_outputs_never_leave_the_folder(tmp_path: Path) -> None:
    value = np.zeros(1)
    names = ("../up", "/root", "a/b", "a_b", "A_B", ".", "", "x" * 500, "ü")
    files = write_outputs(dict.fromkeys(names, value), tmp_path / "out")
    assert len({path.name.lower() for path in files.values()}) == len(names)
    for path in files.values():
        assert path.resolve().parent == (tmp_path / "out").resolve()
        assert np.load(path).shape == (1,)


def test_lists_are_arrays_one_by_one(tmp_path: Path) -> None:
    outputs = {"s": [np.zeros(1), np.ones(2)]}
    assert [(name, part) for name, part, _ in arrays(outputs)] == [("s", "[0]"), ("s", "[1]")]
    files = write_outputs(outputs, tmp_path)
    assert np.load(files["s", "[1]"]).tolist() == [1, 1]
