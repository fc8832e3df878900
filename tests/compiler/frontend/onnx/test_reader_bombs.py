"""Small files that ask for much: refused in little memory and time, whatever they declare."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path

import onnx
import pytest
from onnx import AttributeProto, NodeProto, TensorProto, helper
from support.hostile_onnx import external, functions, nested, small, write

from hearth.compiler.frontend.onnx.reader import read_model
from hearth.runtime.graphs.onnx_tensors import encode_varint

MOST_NBYTES = 1 << 30
HEAD = onnx.ModelProto(ir_version=9).SerializeToString()


def field(number: int, content: bytes) -> bytes:
    return encode_varint(number << 3 | 2) + encode_varint(len(content)) + content


def graph(content: bytes) -> bytes:
    return HEAD + field(7, content)


def deep(levels: int) -> bytes:
    """Graph in attribute in node in graph ..., as bytes: no parser was asked to make it."""
    content = b""
    for _ in range(levels):
        content = field(1, field(5, field(6, content)))
    return graph(content)


def tiny_tensor(elements: int) -> onnx.ModelProto:
    model = small()
    model.graph.initializer[0].dims[:] = [elements]
    return model


def huge_constant(elements: int) -> onnx.ModelProto:
    tensor = TensorProto(data_type=TensorProto.FLOAT, dims=[elements])
    return small([helper.make_node("Constant", [], ["y"], value=tensor)])


BOMBS: Mapping[str, Callable[[], onnx.ModelProto | bytes]] = {
    "functions that double 40 times": lambda: functions(40, 2),
    "functions that unfold to 10^12": lambda: functions(6, 100),
    "graphs 60 deep": lambda: deep(60),
    "graphs 20,000 deep": lambda: deep(20_000),
    "a tensor of 2^39 elements": lambda: tiny_tensor(1 << 39),
    "a tensor of 2^62 elements": lambda: tiny_tensor(1 << 62),
    "a constant of 2^39 elements": lambda: huge_constant(1 << 39),
    "an external tensor of 4 TB": lambda: external(tiny_tensor(1 << 39), location="m.onnx"),
    "two million empty nodes": lambda: graph(field(1, b"") * 2_000_000),
    "three million names": lambda: graph(field(1, field(1, b"a") * 3_000_000)),
    "five million dims": lambda: graph(field(5, encode_varint(1 << 3) * 5_000_000)),
    "47 MB of small integers": lambda: graph(field(5, field(7, b"\1" * 47_000_000))),
    "47 MB of packed ints of an attribute": lambda: graph(
        field(1, field(5, field(8, b"\1" * 47_000_000)))
    ),
    "60 MB of one text": lambda: graph(field(10, b"a") + field(2, b"a" * 60_000_000)),
    "900,000 empty attributes": lambda: graph(field(1, field(5, b"") * 900_000)),
    "900,000 empty tensors": lambda: graph(field(5, b"") * 900_000),
}


MEASURE = """
import sys, time
from pathlib import Path
from hearth.compiler.frontend.onnx.reader import read_model
from hearth.schemas.errors import CheckpointError
for path in sys.argv[1:]:
    began, code = time.process_time(), "read"
    try:
        read_model(Path(path))
    except CheckpointError as error:
        code = error.code
    peak = int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) * 1024
    print(code, time.process_time() - began, peak)
"""


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, tuple[str, float, int]]:
    """Code, seconds of processor time, and the process's peak memory so far; one process reads them all."""
    if sys.platform != "linux":
        pytest.skip("reads /proc")
    folder = tmp_path_factory.mktemp("bombs")
    paths = [write(make(), folder, f"{number}.onnx") for number, make in enumerate(BOMBS.values())]
    call = [sys.executable, "-c", MEASURE, *map(str, paths)]
    run = subprocess.run(call, capture_output=True, text=True, check=True, timeout=300)
    lines = [line.split() for line in run.stdout.splitlines()]
    return {
        name: (code, float(seconds), int(peak))
        for name, (code, seconds, peak) in zip(BOMBS, lines, strict=True)
    }


@pytest.mark.parametrize("name", BOMBS)
def test_is_refused_in_little_time_and_memory(
    name: str, outcomes: Mapping[str, tuple[str, float, int]]
) -> None:
    code, seconds, peak = outcomes[name]
    assert code.startswith("onnx.")
    assert seconds < 30
    assert peak < MOST_NBYTES


def test_a_large_file_of_tensors_is_read_in_little_memory(tmp_path: Path) -> None:
    """A sparse file of 3 GB: its tensor's bytes are never touched, and more than protobuf itself can hold."""
    nbytes = 3 << 30
    tensor = (
        TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[nbytes // 4]).SerializeToString()
        + encode_varint(9 << 3 | 2)
        + encode_varint(nbytes)
    )
    model = small()
    del model.graph.initializer[:]
    plain = model.graph.SerializeToString()
    head = model.SerializeToString().replace(field(7, plain), b"")
    length = len(plain) + len(encode_varint(5 << 3 | 2)) + len(encode_varint(len(tensor) + nbytes))
    length += len(tensor) + nbytes
    path = tmp_path / "m.onnx"
    with path.open("wb") as file:
        file.write(head + encode_varint(7 << 3 | 2) + encode_varint(length) + plain)
        file.write(encode_varint(5 << 3 | 2) + encode_varint(len(tensor) + nbytes) + tensor)
        file.truncate(file.tell() + nbytes)
    found = read_model(path).initializers["w"]
    assert found.nbytes == nbytes
    assert found.rows(nbytes // 4 - 2, nbytes // 4).tolist() == [0, 0]


def test_what_is_deep_but_allowed_is_read(tmp_path: Path) -> None:
    assert len(read_model(write(nested(20), tmp_path)).nodes) == 1


def test_many_nodes_are_read(tmp_path: Path) -> None:
    names = ["x", *(f"v{at}" for at in range(5000)), "y"]
    nodes = [NodeProto(op_type="Relu", input=[a], output=[b]) for a, b in pairwise(names)]
    assert len(read_model(write(small(nodes), tmp_path)).nodes) == 5001


def test_an_attribute_without_a_type_is_read_as_nothing(tmp_path: Path) -> None:
    model = small()
    model.graph.node[0].attribute.append(AttributeProto(name="odd"))
    assert read_model(write(model, tmp_path)).nodes[0].attributes["odd"] == ()
