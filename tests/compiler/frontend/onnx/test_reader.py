"""read_model gives the model in order with lazy tensors, and refuses what is broken or hostile."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from support.hostile_onnx import LARGE, external, functions, nested, small, write

from hearth.compiler.frontend.onnx.initializers import HeldTensor, StoredTensor
from hearth.compiler.frontend.onnx.reader import read_model
from hearth.compiler.frontend.onnx.sessions import open_source
from hearth.schemas.errors import CheckpointError

W = np.linspace(-1, 1, LARGE, dtype=np.float32)


def refused(path: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        read_model(path)
    assert str(path) in str(caught.value)
    return caught.value.code


def test_large_tensors_stay_in_the_file(tmp_path: Path) -> None:
    model = read_model(write(small(s=np.arange(3)), tmp_path))
    w, s = model.initializers["w"], model.initializers["s"]
    assert isinstance(w, StoredTensor) and isinstance(s, HeldTensor)
    np.testing.assert_array_equal(w.array(), W)
    np.testing.assert_array_equal(w.rows(5, 9), W[5:9])
    np.testing.assert_array_equal(s.rows(1, 3), [1, 2])
    assert (w.nbytes, w.shape, w.dtype) == (4 * LARGE, (LARGE,), TensorProto.FLOAT)
    assert len(model.proto.SerializeToString()) < 1000


def test_the_source_runs_from_its_own_file(tmp_path: Path) -> None:
    model = read_model(write(small(), tmp_path))
    x = np.ones(LARGE, np.float32)
    np.testing.assert_array_equal(open_source(model).run({"x": x})["y"], W + W)
    part = open_source(model, ["y"], {"a": TensorProto.FLOAT})
    np.testing.assert_array_equal(part.run({"a": x})["y"], x + W)


@pytest.mark.parametrize(
    "array",
    [
        np.arange(LARGE, dtype=np.float64),
        np.arange(LARGE, dtype=np.float16),
        np.arange(LARGE) % 2 == 0,
        np.arange(LARGE, dtype=np.uint8),
        np.arange(LARGE, dtype=np.complex64) * 1j,
    ],
    ids=lambda array: str(array.dtype),
)
@pytest.mark.parametrize("raw", [True, False], ids=["raw", "typed"])
@pytest.mark.parametrize("count", [3, LARGE])
def test_every_form_of_data(array: np.ndarray, raw: bool, count: int, tmp_path: Path) -> None:
    values = array[:count]
    dtype = helper.np_dtype_to_tensor_dtype(values.dtype)
    tensor = (
        numpy_helper.from_array(values, "t")
        if raw
        else helper.make_tensor("t", dtype, values.shape, values.tolist())
    )
    model = small()
    model.graph.initializer.append(tensor)
    found = read_model(write(model, tmp_path)).initializers["t"]
    np.testing.assert_array_equal(found.array(), values)
    np.testing.assert_array_equal(found.rows(1, 2), values[1:2])


@pytest.mark.parametrize("dtype", [TensorProto.INT4, TensorProto.UINT4])
@pytest.mark.parametrize("rows", [3, 4000])
def test_packed_data(dtype: int, rows: int, tmp_path: Path) -> None:
    low = -8 if dtype == TensorProto.INT4 else 0
    values = (np.arange(rows * 3) % 16 + low).reshape(rows, 3)
    model = small()
    model.graph.initializer.append(
        helper.make_tensor("t", dtype, values.shape, values.reshape(-1).tolist())
    )
    packed = np.frombuffer(_packed(values.reshape(-1)), np.uint8)
    tensor = TensorProto(name="r", data_type=dtype, dims=values.shape, raw_data=packed.tobytes())
    model.graph.initializer.append(tensor)
    found = read_model(write(model, tmp_path)).initializers
    for name in "tr":
        np.testing.assert_array_equal(found[name].array(), values)
        np.testing.assert_array_equal(found[name].rows(1, 3), values[1:3])
        np.testing.assert_array_equal(found[name].rows(2, 3), values[2:3])


def _packed(values: np.ndarray) -> bytes:
    codes = np.append(values & 15, [0] * (len(values) % 2)).astype(np.uint8)
    return (codes[::2] | codes[1::2] << 4).tobytes()


def test_constants_become_initializers_and_defaults_are_no_inputs(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Constant", [], ["k"], value=numpy_helper.from_array(W, "any")),
        helper.make_node("Constant", [], ["f"], value_float=2.0),
        helper.make_node("Constant", [], ["i"], value_ints=[1, 2]),
        helper.make_node("Mul", ["x", "k"], ["y"]),
    ]
    model = small(nodes)
    model.graph.input.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, [LARGE]))
    found = read_model(write(model, tmp_path))
    assert [node.op_type for node in found.nodes] == ["Mul"]
    assert [each.name for each in found.inputs] == ["x"]
    np.testing.assert_array_equal(found.initializers["k"].array(), W)
    assert found.initializers["f"].array() == 2.0 and found.initializers["f"].shape == ()
    assert found.initializers["i"].array().tolist() == [1, 2]


def test_nodes_are_put_in_order(tmp_path: Path) -> None:
    model = small()
    nodes = [onnx.NodeProto.FromString(node.SerializeToString()) for node in model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(reversed(nodes))
    found = read_model(write(model, tmp_path))
    assert [node.op_type for node in found.nodes] == ["Mul", "Add"]
    assert found.producers["y"].op_type == "Add"
    assert [node.op_type for node in found.consumers["w"]] == ["Mul", "Add"]


def test_what_subgraphs_read_is_known(tmp_path: Path) -> None:
    found = read_model(write(nested(3), tmp_path))
    (outer,) = found.nodes
    assert set(outer.captures) == {"x", "c"}
    assert found.consumers["x"] == (outer,)
    given = {"x": np.ones(LARGE, np.float32)}
    np.testing.assert_array_equal(open_source(found).run(given)["y"], given["x"])


def test_functions_are_inlined(tmp_path: Path) -> None:
    found = read_model(write(functions(3, 4), tmp_path))
    assert [node.op_type for node in found.nodes] == ["Relu"] * 64


def test_a_folder_with_one_model(tmp_path: Path) -> None:
    path = write(small(), tmp_path)
    assert read_model(tmp_path).path == path
    write(small(), tmp_path, "other.onnx")
    assert refused(tmp_path) == "onnx.which"


def test_external_data(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/w.bin").write_bytes(b"\0" * 64 + W.tobytes())
    model = external(small(), location="sub/w.bin", offset=64, length=4 * LARGE)
    found = read_model(write(model, tmp_path))
    np.testing.assert_array_equal(found.initializers["w"].array(), W)
    assert found.files == (tmp_path / "m.onnx", tmp_path / "sub/w.bin")
    x = np.ones(LARGE, np.float32)
    np.testing.assert_array_equal(open_source(found).run({"x": x})["y"], W + W)


def test_a_cache_of_links(tmp_path: Path) -> None:
    """Model and data are links into one folder elsewhere."""
    store, view = tmp_path / "blobs", tmp_path / "snapshot"
    store.mkdir(), view.mkdir()
    (store / "1").write_bytes(W.tobytes())
    write(external(small(), location="w.bin", offset=0, length=4 * LARGE), store, "2")
    (view / "w.bin").symlink_to("../blobs/1")
    (view / "m.onnx").symlink_to("../blobs/2")
    found = read_model(view / "m.onnx")
    np.testing.assert_array_equal(found.initializers["w"].array(), W)


@pytest.mark.parametrize(
    "location", ["../w.bin", "/etc/passwd", "a/../../w.bin", "", "out/w.bin", "a\0b", ".."]
)
def test_external_data_outside_the_folder(location: str, tmp_path: Path) -> None:
    (tmp_path / "w.bin").write_bytes(W.tobytes())
    inner = tmp_path / "inner"
    inner.mkdir()
    (inner / "out").symlink_to(tmp_path)
    path = write(external(small(), location=location, offset=0), inner)
    assert refused(path) == "onnx.external_path"


@pytest.mark.parametrize(
    ("entries", "code"),
    [
        ({"offset": 1}, "onnx.external_bounds"),
        ({"offset": 10**18 - 1}, "onnx.external_bounds"),
        ({"offset": -1}, "onnx.external_place"),
        ({"offset": "1e3"}, "onnx.external_place"),
        ({"offset": "٣"}, "onnx.external_place"),
        ({"length": 4}, "onnx.tensor_size"),
    ],
    ids=str,
)
def test_external_data_that_does_not_fit(
    entries: dict[str, object], code: str, tmp_path: Path
) -> None:
    (tmp_path / "w.bin").write_bytes(W.tobytes())
    path = write(external(small(), location="w.bin", **entries), tmp_path)
    assert refused(path) == code


def test_external_data_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"gone\.bin") as caught:
        read_model(write(external(small(), location="gone.bin"), tmp_path))
    assert caught.value.code == "onnx.not_found"


def test_a_pipe_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "m.onnx")
    assert refused(tmp_path / "m.onnx") == "onnx.not_a_file"
    os.mkfifo(tmp_path / "w.bin")
    with pytest.raises(CheckpointError) as caught:
        read_model(write(external(small(), location="w.bin"), tmp_path, "n.onnx"))
    assert caught.value.code == "onnx.not_a_file"


def test_a_file_that_changes_is_noticed(tmp_path: Path) -> None:
    path = write(small(), tmp_path)
    model = read_model(path)
    os.utime(path, (1, 1))
    with pytest.raises(CheckpointError) as caught:
        model.initializers["w"].array()
    assert caught.value.code == "checkpoint.changed"


def _twice(model: onnx.ModelProto) -> None:
    model.graph.node.append(helper.make_node("Relu", ["x"], ["a"]))


def _tensor_twice(model: onnx.ModelProto) -> None:
    model.graph.initializer.append(model.graph.initializer[0])


def _made_and_stored(model: onnx.ModelProto) -> None:
    model.graph.node.append(helper.make_node("Relu", ["x"], ["w"]))


def _cycle(model: onnx.ModelProto) -> None:
    model.graph.node[0].input[0] = "y"


def _own(model: onnx.ModelProto) -> None:
    model.graph.node[0].input[0] = "a"


def _missing(model: onnx.ModelProto) -> None:
    model.graph.node[0].input[0] = "nowhere"


def _missing_output(model: onnx.ModelProto) -> None:
    model.graph.output[0].name = "nowhere"


def _negative(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].dims[0] = -LARGE


def _absurd(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].dims.extend([1 << 40, 1 << 40])


def _longer(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].dims[0] = LARGE + 1


def _empty(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].raw_data = b""


def _undefined(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].data_type = 0


def _unknown_type(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].data_type = 99


def _segment(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].segment.begin = 0


def _sparse(model: onnx.ModelProto) -> None:
    model.graph.sparse_initializer.add().values.name = "s"


def _ir(model: onnx.ModelProto) -> None:
    model.ir_version = 99


def _no_ir(model: onnx.ModelProto) -> None:
    model.ClearField("ir_version")


def _opset(model: onnx.ModelProto) -> None:
    model.opset_import[0].version = 999


def _opset_twice(model: onnx.ModelProto) -> None:
    model.opset_import.append(helper.make_opsetid("ai.onnx", 17))


def _no_graph(model: onnx.ModelProto) -> None:
    model.ClearField("graph")


@pytest.mark.parametrize(
    ("breaks", "code"),
    [
        (_twice, "onnx.duplicate"), (_tensor_twice, "onnx.duplicate"),
        (_made_and_stored, "onnx.duplicate"), (_cycle, "onnx.cycle"), (_own, "onnx.cycle"),
        (_missing, "onnx.value_missing"), (_missing_output, "onnx.value_missing"),
        (_negative, "onnx.tensor_shape"), (_absurd, "onnx.tensor_shape"),
        (_longer, "onnx.tensor_size"), (_empty, "onnx.tensor_size"),
        (_undefined, "onnx.tensor_type"), (_unknown_type, "onnx.tensor_type"),
        (_segment, "onnx.tensor_size"), (_sparse, "onnx.sparse_tensor"),
        (_ir, "onnx.ir_version"), (_no_ir, "onnx.ir_version"), (_opset, "onnx.opset"),
        (_opset_twice, "onnx.opset"), (_no_graph, "onnx.malformed"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)  # fmt: skip
def test_what_is_broken_is_refused(
    breaks: Callable[[onnx.ModelProto], None], code: str, tmp_path: Path
) -> None:
    model = small()
    breaks(model)
    assert refused(write(model, tmp_path)) == code


def test_custom_operators_are_all_named(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Mine", ["x"], ["a"], domain="my.ops"),
        helper.make_node("Yours", ["a"], ["b"]),
        helper.make_node("Relu", ["b"], ["y"]),
    ]
    model = small(nodes)
    model.opset_import.append(helper.make_opsetid("my.ops", 1))
    with pytest.raises(
        CheckpointError, match=r"Yours of 'the standard', Mine of 'my\.ops'"
    ) as caught:
        read_model(write(model, tmp_path))
    assert caught.value.code == "onnx.custom_operator"


@pytest.mark.parametrize(
    "content", [b"", b"\x00", b"hello, world", b"\x0a\xff\xff\xff\xff\x0f", b"\xff" * 99]
)
def test_what_is_no_protobuf(content: bytes, tmp_path: Path) -> None:
    assert refused(write(content, tmp_path)) in ("onnx.malformed", "onnx.ir_version")


def test_every_truncation_is_refused(tmp_path: Path) -> None:
    content = small().SerializeToString()
    path = tmp_path / "m.onnx"
    for end in [*range(0, 300), *range(300, len(content), 97)]:
        path.write_bytes(content[:end])
        assert refused(path).startswith("onnx.")
