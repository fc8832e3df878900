"""Small graphs that compute much: compiling them ends soon, in bounded memory, with an archive or an error."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import NodeProto, TensorProto, helper, numpy_helper
from support.hostile_onnx import write

MOST_NBYTES = 1 << 30


def model(
    nodes: list[NodeProto], dims: list[int | str] | None = None, **stored: object
) -> onnx.ModelProto:
    """Nodes from x to y."""
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, dims or ["n"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in stored.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def filled(elements: int) -> onnx.ModelProto:
    nodes = [
        helper.make_node("ConstantOfShape", ["s"], ["c"]),
        helper.make_node("Add", ["x", "c"], ["y"]),
    ]
    return model(nodes, s=[elements])


def doubled(times: int) -> onnx.ModelProto:
    names = ["x", *(f"c{at}" for at in range(times))]
    nodes = [
        helper.make_node("Concat", [names[at]] * 2, [names[at + 1]], axis=0) for at in range(times)
    ]
    return model([*nodes, helper.make_node("ReduceSum", [names[-1]], ["y"])])


def endless(trips: int) -> onnx.ModelProto:
    """y = x + 1 + 1 + ..."""
    body = helper.make_graph(
        [helper.make_node("Identity", ["c"], ["d"]), helper.make_node("Add", ["v", "one"], ["w"])],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("c", TensorProto.BOOL, []),
            helper.make_tensor_value_info("v", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("d", TensorProto.BOOL, []),
            helper.make_tensor_value_info("w", TensorProto.FLOAT, None),
        ],
    )
    loop = helper.make_node("Loop", ["trips", "go", "x"], ["y"], body=body)
    return model([loop], trips=np.int64(trips), go=np.array(True), one=np.float32(1))


MODELS: Mapping[str, Callable[[], onnx.ModelProto]] = {
    "2^33 zeros": lambda: filled(1 << 33),
    "2^28 zeros": lambda: filled(1 << 28),
    "2^62 zeros": lambda: filled(1 << 62),
    "a value doubled 40 times": lambda: doubled(40),
    "a value doubled 28 times": lambda: doubled(28),
    "an input of 2^40 elements": lambda: model([helper.make_node("Relu", ["x"], ["y"])], [1 << 40]),
    "an input of 2^62 elements": lambda: model([helper.make_node("Relu", ["x"], ["y"])], [1 << 31] * 2),
    "a range to 2^40": lambda: model(
        [helper.make_node("Range", ["a", "b", "c"], ["r"]), helper.make_node("Mul", ["x", "r"], ["y"])],
        a=np.float32(0), b=np.float32(2**40), c=np.float32(1),
    ),
    "a tile of 2^40": lambda: model([helper.make_node("Tile", ["x", "s"], ["y"])], s=[1 << 40]),
    "an expansion to 2^36": lambda: model([helper.make_node("Expand", ["x", "s"], ["y"])], s=[1 << 18, 1 << 18]),
}  # fmt: skip

COMPILE = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from support.compiling import wanted
from hearth.compiler.conduct import Conduct
from hearth.compiler.pipeline import compile_model
from hearth.schemas.errors import HearthError
for name in sys.argv[2:]:
    path, code = Path(name), "compiled"
    try:
        compile_model(path, path.with_suffix(".har"), wanted(weights="int8"), Conduct(1))
    except HearthError as error:
        code = error.code
    status = Path("/proc/self/status").read_text()
    print(code, int(status.split("VmHWM:")[1].split()[0]) * 1024)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_compiling_is_bounded(tmp_path: Path) -> None:
    paths = [write(make(), tmp_path, f"{at}.onnx") for at, make in enumerate(MODELS.values())]
    tests = Path(__file__).parent.parent
    call = [sys.executable, "-c", COMPILE, str(tests), *map(str, paths)]
    run = subprocess.run(call, capture_output=True, text=True, check=True, timeout=300)
    found = dict(zip(MODELS, (line.split() for line in run.stdout.splitlines()), strict=True))
    assert all(code in ("compiled", "onnx.engine") for code, _ in found.values()), found
    assert all(int(peak) < MOST_NBYTES for _, peak in found.values()), found


def test_a_run_that_takes_too_long_ends() -> None:
    from hearth.runtime.graphs.onnx_engine import Guard, open_engine
    from hearth.schemas.errors import InputError

    engine = open_engine(endless(1 << 62).SerializeToString(), threads=1, guard=Guard(seconds=0.5))
    with pytest.raises(InputError) as caught:
        engine.run({"x": np.zeros(1, np.float32)})
    assert caught.value.code == "input.onnx_failed"
