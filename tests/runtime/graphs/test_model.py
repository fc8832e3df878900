"""Graphs of named arrays: what they take, what they refuse, and that their tensors are mapped, not copied."""

from __future__ import annotations

import builtins
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from support.hostile_onnx import LARGE, external, small, write
from support.onnx_graphs import compiled

from hearth.runtime import load_graph
from hearth.runtime.archive import ArchiveWriter, open_archive
from hearth.runtime.graphs.checks import check_plan
from hearth.runtime.graphs.model import GraphModel
from hearth.runtime.graphs.onnx_tensors import names_files, with_tensors
from hearth.schemas.codec import dumps
from hearth.schemas.errors import ArchiveError, HearthError, InputError, MissingError
from hearth.schemas.graph import Engine, Plan, Step, StoredTensor


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> GraphModel:
    """y = x * w + w over f32[2048]."""
    folder = tmp_path_factory.mktemp("graph")
    return compiled(write(small(), folder), folder / "m.har")


X = np.ones(LARGE, np.float32)


def test_runs(model: GraphModel) -> None:
    w = np.linspace(-1, 1, LARGE, dtype=np.float32)
    np.testing.assert_array_equal(model.run({"x": X})["y"], w + w)
    np.testing.assert_array_equal(model.run({"x": X.tolist()})["y"], w + w)
    strided = np.ones(2 * LARGE, np.float32)[::2]
    np.testing.assert_array_equal(model.run({"x": strided})["y"], w + w)


@pytest.mark.parametrize(
    ("inputs", "code", "says"),
    [
        ({}, "input.port", r"'x' is missing.*tensor\(float\)\[2048\]"),
        ({"x": X, "z": X}, "input.port", "no input 'z'.*one of x"),
        ({"x": X.astype(np.float64)}, "input.array", "has the type float64"),
        ({"x": X[:-1]}, "input.array", r"has the shape \[2047\]"),
        ({"x": X[None]}, "input.array", "has the shape"),
        ({"x": ["a"]}, "input.array", "is no array"),
        ({"x": None}, "input.array", "is no array|has the"),
    ],
)
def test_inputs_that_do_not_fit(
    model: GraphModel, inputs: dict[str, Any], code: str, says: str
) -> None:
    with pytest.raises(InputError, match=says) as caught:
        model.run(inputs)
    assert caught.value.code == code
    assert model.run({"x": X})["y"].shape == (LARGE,)


def test_what_onnxruntime_cannot_run_is_an_error(tmp_path: Path) -> None:
    graph = helper.make_graph(
        [helper.make_node("Add", ["a", "b"], ["y"])],
        "g",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [name]) for name in "ab"],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    made = compiled(write(proto, tmp_path), tmp_path / "m.har")
    two, three = np.zeros(2, np.float32), np.zeros(3, np.float32)
    with pytest.raises(InputError) as caught:
        made.run({"a": two, "b": three})
    assert caught.value.code == "input.onnx_failed"
    assert "/onnxruntime" not in str(caught.value)
    assert made.run({"a": two, "b": two})["y"].shape == (2,)


def test_texts_go_in_and_out(tmp_path: Path) -> None:
    graph = helper.make_graph(
        [helper.make_node("StringConcat", ["a", "b"], ["y"])],
        "g",
        [helper.make_tensor_value_info("a", TensorProto.STRING, ["n"])],
        [helper.make_tensor_value_info("y", TensorProto.STRING, ["n"])],
        [helper.make_tensor("b", TensorProto.STRING, [1], ["!"])],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    made = compiled(write(proto, tmp_path), tmp_path / "m.har")
    assert made.run({"a": ["hey", "ho"]})["y"].tolist() == ["hey!", "ho!"]
    with pytest.raises(InputError):
        made.run({"a": [1, 2]})


def test_onnxruntime_is_asked_for_by_name(
    model: GraphModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def missing(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.split(".")[0] == "onnxruntime":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(MissingError, match="pip install onnxruntime") as caught:
        load_graph(model.archive.path)
    assert caught.value.code == "missing.onnxruntime"


MEASURE = """
import sys
from pathlib import Path
import numpy as np
from hearth.runtime import load_graph

def anonymous():
    status = Path("/proc/self/status").read_text()
    return int(status.split("RssAnon:")[1].split()[0]) * 1024

import onnxruntime
before = anonymous()
model = load_graph(sys.argv[1], threads=1)
loaded = anonymous() - before
model.run({"x": np.ones((1, 4096), np.float32)})
print(loaded, anonymous() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_tensors_are_mapped_not_copied(tmp_path: Path) -> None:
    nbytes = 64 << 20
    w = np.ones((4096, nbytes // 4 // 4096), np.float32)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4096])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(w, "w")],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    compiled(write(proto, tmp_path), tmp_path / "m.har")
    call = [sys.executable, "-c", MEASURE, str(tmp_path / "m.har")]
    run = subprocess.run(call, capture_output=True, text=True, check=True)
    loaded, ran = map(int, run.stdout.split())
    assert loaded < nbytes / 4 and ran < nbytes / 4


def test_a_name_that_moved_is_noticed(model: GraphModel, tmp_path: Path) -> None:
    """onnxruntime opens the file by its name: another file there is an error, not other weights."""
    path = tmp_path / "m.har"
    path.write_bytes(model.archive.path.read_bytes())
    archive = open_archive(path)
    path.write_bytes(path.read_bytes()[:56] + b"another!" + path.read_bytes()[64:])
    from hearth.runtime.loader import graph_of

    with pytest.raises(ArchiveError) as caught:
        graph_of(replace(archive, mapping=model.archive.mapping))
    assert caught.value.code == "archive.changed"


ONE = StoredTensor("w", 1, (4,), 0, 16)
STEP = Step(Engine.ONNX, "onnx/0", ("x",), ("y",), (0,))


def _plan(model: GraphModel, **changes: Any) -> Plan:
    return replace(model.plan, **changes)


@pytest.mark.parametrize(
    "change",
    [
        lambda plan: {"tensors": (replace(plan.tensors[0], nbytes=4),)},
        lambda plan: {"tensors": (replace(plan.tensors[0], offset=1 << 40),)},
        lambda plan: {"tensors": (replace(plan.tensors[0], dtype=8),)},
        lambda plan: {"tensors": (replace(plan.tensors[0], dtype=99),)},
        lambda plan: {"tensors": ()},
        lambda plan: {"steps": ()},
        lambda plan: {"steps": plan.steps * 2},
        lambda plan: {"steps": (replace(plan.steps[0], run="onnx/7"),)},
        lambda plan: {"steps": (replace(plan.steps[0], run="manifest"),)},
        lambda plan: {"steps": (replace(plan.steps[0], engine=Engine.NATIVE),)},
        lambda plan: {"steps": (replace(plan.steps[0], inputs=("nowhere",)),)},
        lambda plan: {"steps": (replace(plan.steps[0], outputs=("x",)),)},
        lambda plan: {"outputs": (replace(plan.outputs[0], name="z"),)},
    ],
)
def test_plans_that_do_not_hold_together(
    model: GraphModel, change: Callable[[Plan], dict[str, Any]]
) -> None:
    plan = _plan(model, **change(model.plan))
    with pytest.raises(ArchiveError) as caught:
        check_plan(plan, model.archive.entries, model.manifest.entries, "m.har")
    assert caught.value.code == "archive.graph"


def _with_section(model: GraphModel, path: Path, name: str, content: bytes) -> None:
    """The archive with one section replaced."""
    with ArchiveWriter(path) as writer:
        for section in model.archive.directory.sections:
            data = content if section.name == name else bytes(model.archive.section(section.name))
            writer.add(section.name, section.kind, data)


@pytest.mark.parametrize(
    "content",
    [b"", b"junk", external(small(), location="m.har").SerializeToString()],
    ids=["empty", "junk", "another file"],
)
def test_segments_that_are_no_models(model: GraphModel, content: bytes, tmp_path: Path) -> None:
    _with_section(model, tmp_path / "m.har", "onnx/0", content)
    with pytest.raises(HearthError) as caught:
        load_graph(tmp_path / "m.har")
    assert caught.value.code in ("archive.onnx", "archive.graph")


def test_a_plan_with_other_ports_than_its_segment(model: GraphModel, tmp_path: Path) -> None:
    step = replace(model.plan.steps[0], outputs=("z",))
    plan = _plan(model, steps=(step,), outputs=(replace(model.outputs[0], name="z"),))
    _with_section(model, tmp_path / "m.har", "graph", dumps(plan))
    with pytest.raises(ArchiveError) as caught:
        load_graph(tmp_path / "m.har")
    assert caught.value.code == "archive.graph"


def test_added_tensors_are_what_onnx_reads() -> None:
    plain = small()
    del plain.graph.initializer[:]
    tensor = StoredTensor("wörter", 11, (3, 300), 64, 7200)
    found = onnx.ModelProto.FromString(
        with_tensors(plain.SerializeToString(), [tensor], "m.har", 4096)
    )
    assert found.graph.node == plain.graph.node
    (added,) = found.graph.initializer
    assert (added.name, added.data_type, tuple(added.dims)) == ("wörter", 11, (3, 300))
    places = {entry.key: entry.value for entry in added.external_data}
    assert places == {"location": "m.har", "offset": "4160", "length": "7200"}


def test_models_that_name_files_are_found() -> None:
    assert not names_files(small().SerializeToString())
    assert names_files(external(small(), location="w").SerializeToString())
    assert not names_files(small(location=np.zeros(3)).SerializeToString())
    body = helper.make_graph(
        [], "b", [], [], [external(small(), location="w").graph.initializer[0]]
    )
    inner = small([helper.make_node("If", ["x"], ["y"], then_branch=body)])
    assert names_files(inner.SerializeToString())
    assert names_files(b"\x3a\xff\xff\x7f" + b"location")
