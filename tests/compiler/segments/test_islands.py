"""Native islands of general graphs: what they are cut from, and that they compute what onnxruntime does."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import NodeProto, TensorProto, helper, numpy_helper
from support.compiling import wanted
from support.mutations import calm
from support.onnx_graphs import compiled, compiled_with_islands, engine, saved

from hearth.runtime.graphs.model import GraphModel
from hearth.schemas.graph import Engine

E = 48
ALWAYS = 0  # bytes an island must save: none
RELATIVE = 2e-4


def weight(name: str, *shape: int) -> TensorProto:
    rng = np.random.default_rng(sum(name.encode()))
    values = rng.standard_normal(shape) / np.sqrt(shape[0])
    return numpy_helper.from_array(values.astype(np.float32), name)


def model(
    nodes: Sequence[NodeProto], outputs: Sequence[str], **shapes: tuple[int, ...]
) -> onnx.ModelProto:
    """Nodes over x[n, t, 48] and z of the same shape; `shapes` are those of stored weights."""
    graph = helper.make_graph(
        list(nodes),
        "mixed",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", "t", E]) for name in "xz"],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [weight(name, *shape) for name, shape in shapes.items()],
    )
    opsets = [helper.make_opsetid("", 23), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def node(op: str, inputs: str, output: str, domain: str = "", **attributes: object) -> NodeProto:
    return helper.make_node(op, inputs.split(), [output], domain=domain, **attributes)


def run_both(
    proto: onnx.ModelProto, folder: Path, shape: tuple[int, int] = (3, 50), **options: object
) -> tuple[GraphModel, float]:
    """The archive, and how far its outputs are from onnxruntime's, relative to the largest."""
    chosen = wanted(**{"weights": "f32", **options})
    made = compiled_with_islands(saved(proto, folder), folder / "m.har", chosen, ALWAYS)
    rng = np.random.default_rng(7)
    feeds = {name: rng.standard_normal((*shape, E)).astype(np.float32) for name in "xz"}
    found, alone = (
        made.run(feeds),
        engine(proto).run({name: feeds[name] for name in engine(proto).inputs}),
    )
    worst = 0.0
    for name, expected in alone.items():
        assert found[name].shape == expected.shape
        if expected.size:
            worst = max(worst, float(np.abs(found[name] - expected).max() / np.abs(expected).max()))
    return made, worst


def engines(made: GraphModel) -> list[str]:
    return [step.engine.value for step in made.plan.steps]


CHAINS = {
    "mlp": ([
        node("MatMul", "x u", "a"), node("Add", "a bu", "b"), node("Gelu", "b", "c"),
        node("MatMul", "c d", "e"), node("Add", "e x", "y"),
    ], {"u": (E, 96), "bu": (96,), "d": (96, E)}),
    "swiglu": ([
        node("MatMul", "x g", "a"), node("Sigmoid", "a", "b"), node("Mul", "a b", "c"),
        node("MatMul", "x u", "d"), node("Mul", "c d", "e"), node("MatMul", "e w", "y"),
    ], {"g": (E, 64), "u": (E, 64), "w": (64, E)}),
    "norms": ([
        node("LayerNormalization", "x g b", "a", epsilon=1e-3),
        node("LayerNormalization", "a g", "c", axis=2),
        node("RMSNormalization", "c g", "d", epsilon=1e-6),
        node("MatMul", "d w", "y"),
    ], {"g": (E,), "b": (E,), "w": (E, 7)}),
    "fused": ([
        node("SkipLayerNormalization", "x z g b", "a", "com.microsoft"),
        node("SkipSimplifiedLayerNormalization", "a z g", "c", "com.microsoft"),
        node("FastGelu", "c b", "d", "com.microsoft"), node("BiasGelu", "d b", "e", "com.microsoft"),
        node("Gelu", "e", "f", "com.microsoft"), node("Gelu", "f", "h", approximate="tanh"),
        node("MatMul", "h w", "y"),
    ], {"g": (E,), "b": (E,), "w": (E, 5)}),
    "activations": ([
        node("MatMul", "x w", "a"), node("Relu", "a", "b"), node("Tanh", "b", "c"),
        node("Mul", "c a", "d"), node("Add", "one d", "y"),
    ], {"w": (E, E), "one": (1,)}),
}  # fmt: skip


@pytest.mark.parametrize("name", CHAINS)
def test_a_chain_is_one_island(name: str, tmp_path: Path) -> None:
    nodes, shapes = CHAINS[name]
    made, worst = run_both(model(nodes, ["y"], **shapes), tmp_path)
    assert engines(made) == ["native"]
    assert worst <= RELATIVE


def test_gemm_on_rows(tmp_path: Path) -> None:
    nodes = [
        node("Flatten", "x", "a", axis=2), node("Gemm", "a w b", "c"),
        node("Gemm", "c v", "y", transB=1),
    ]  # fmt: skip
    made, worst = run_both(model(nodes, ["y"], w=(E, 9), b=(9,), v=(4, 9)), tmp_path)
    assert engines(made) == ["onnx", "native"]
    assert worst <= RELATIVE


@pytest.mark.parametrize("shape", [(1, 1), (3, 50), (2, 64), (1, 129), (0, 5), (5, 300)])
def test_any_rows(shape: tuple[int, int], tmp_path: Path) -> None:
    nodes, shapes = CHAINS["mlp"]
    _, worst = run_both(model(nodes, ["y"], **shapes), tmp_path, shape)
    assert worst <= RELATIVE


def mixed() -> onnx.ModelProto:
    """Island, softmax, two islands of other rows side by side, reduction; values that cross and are outputs too."""
    nodes = [
        node("MatMul", "x w", "a"), node("Softmax", "a", "s"), node("MatMul", "s v", "b"),
        node("Transpose", "b", "c", perm=[1, 0, 2]), node("MatMul", "c u", "d"), node("Relu", "d", "e"),
        node("Transpose", "e", "f", perm=[1, 0, 2]), node("Add", "f b", "g"), node("ReduceMean", "g", "h"),
    ]  # fmt: skip
    return model(nodes, ["g", "h", "b"], w=(E, 32), v=(32, 40), u=(40, 40))


def test_islands_between_segments(tmp_path: Path) -> None:
    made, worst = run_both(mixed(), tmp_path)
    assert engines(made) == ["native", "onnx", "native", "onnx", "native", "onnx", "native", "onnx"]
    assert worst <= RELATIVE
    reasons = {each.op: each.reason for each in made.plan.operators}
    assert (
        reasons["MatMul"] == ""
        and reasons["Softmax"] == "no native operator computes it row by row"
    )


def test_float_models_stay_whole(tmp_path: Path) -> None:
    made = compiled(saved(mixed(), tmp_path), tmp_path / "m.har", wanted(weights="f32"))
    assert engines(made) == ["onnx"]
    assert all(each.reason for each in made.plan.operators)


def test_islands_that_save_little_stay_onnx(tmp_path: Path) -> None:
    big = [
        node("MatMul", "x w", "a"),
        node("MatMul", "a v", "b"),
        node("Softmax", "b", "s"),
        node("MatMul", "s u", "y"),
    ]
    proto = model(big, ["y"], w=(E, 8192), v=(8192, E), u=(E, E))
    made = compiled(saved(proto, tmp_path), tmp_path / "m.har", wanted(weights="int8"))
    assert engines(made) == ["native", "onnx"]
    (reason,) = {
        each.reason for each in made.plan.operators if each.op == "MatMul" and each.step == 1
    }
    assert reason.startswith("native would not pay")


# Of the largest value: int8 codes of a row keep 1 / 254 of its largest value, f16 11 bits, int4 codes 1 / 14.
@pytest.mark.parametrize(("weights", "bound"), [("f16", 2e-3), ("int8", 0.04), ("int4", 0.3)])
def test_quantised_islands(weights: str, bound: float, tmp_path: Path) -> None:
    nodes, shapes = CHAINS["mlp"]
    made, worst = run_both(model(nodes, ["y"], **shapes), tmp_path, weights=weights)
    assert engines(made) == ["native"]
    assert worst * 10 > RELATIVE and worst <= bound


NOT_NATIVE = {
    "a computed matrix": ([node("MatMul", "x zt", "y")], {}),
    "a batch of matrices": ([node("MatMul", "x w", "y")], {"w": (1, E, 8)}),
    "a vector": ([node("MatMul", "x w", "y")], {"w": (E,)}),
    "a column": ([node("Add", "x w", "y")], {"w": (E, 1)}),
    "one more dim": ([node("Add", "x w", "y")], {"w": (1, 1, 1, E)}),
    "a table": ([node("Add", "x w", "y")], {"w": (E, E)}),
    "another axis": ([node("LayerNormalization", "x g", "y", axis=1)], {"g": (E, E)}),
    "a scaled product": ([node("Flatten", "x", "a", axis=2), node("Gemm", "a w", "y", alpha=2.0)], {"w": (E, 4)}),
    "a broadcast": ([node("ReduceMean", "z axes", "a"), node("Add", "x a", "y")], {}),
}  # fmt: skip


@pytest.mark.parametrize("name", NOT_NATIVE)
def test_what_only_looks_row_by_row(name: str, tmp_path: Path) -> None:
    nodes, shapes = NOT_NATIVE[name]
    proto = model([node("Transpose", "z", "zt", perm=[0, 2, 1]), *nodes], ["y"], **shapes)
    proto.graph.initializer.append(numpy_helper.from_array(np.array([2]), "axes"))
    made, worst = run_both(proto, tmp_path, (3, E))
    assert engines(made) == ["onnx"]
    assert worst <= RELATIVE


@pytest.mark.parametrize("op", ["SkipLayerNormalization", "SkipSimplifiedLayerNormalization"])
def test_an_epsilon_that_is_not_said_is_that_of_the_operator(op: str, tmp_path: Path) -> None:
    """1e-12, which shows where the values are small."""
    small = numpy_helper.from_array(np.float32(1e-4), "small")
    proto = model(
        [node("Mul", "x small", "a"), node("Mul", "z small", "c"), node(op, "a c g", "y", "com.microsoft")],
        ["y"], g=(E,),
    )  # fmt: skip
    proto.graph.initializer.append(small)
    made, worst = run_both(proto, tmp_path)
    assert engines(made) == ["onnx", "native"]
    assert worst <= RELATIVE


def test_rows_that_disagree_are_an_error(tmp_path: Path) -> None:
    """The model's own names of dims promise what the inputs break."""
    from hearth.schemas.errors import InputError

    proto = model([node("Add", "x z", "a"), node("MatMul", "a w", "y")], ["y"], w=(E, 4))
    made, _ = run_both(proto, tmp_path)
    with pytest.raises(InputError) as caught:
        made.run({"x": np.zeros((2, 3, E), np.float32), "z": np.zeros((1, 3, E), np.float32)})
    assert caught.value.code == "input.rows"


def test_bytes_are_the_same_every_time(tmp_path: Path) -> None:
    paths = [tmp_path / "a.har", tmp_path / "b.har"]
    source = saved(mixed(), tmp_path)
    for path in paths:
        compiled_with_islands(source, path, wanted(weights="int8"), ALWAYS)
    assert paths[0].read_bytes() == paths[1].read_bytes()


OPS = st.sampled_from(["MatMul", "Relu", "Sigmoid", "Softmax", "Add", "Mul", "Bias", "Norm", "Neg"])


@st.composite
def random_graphs(draw: st.DrawFn) -> onnx.ModelProto:
    """A dozen nodes over values of one shape, native and not; some values are outputs too."""
    values, nodes = ["x", "z"], []
    for number in range(draw(st.integers(1, 12))):
        a, b = draw(st.sampled_from(values)), draw(st.sampled_from(values))
        made = f"v{number}"
        match draw(OPS):
            case "MatMul":
                nodes.append(node("MatMul", f"{a} w", made))
            case "Bias":
                nodes.append(node("Add", f"{a} b", made))
            case "Norm":
                nodes.append(node("LayerNormalization", f"{a} b b", made))
            case "Add" | "Mul" as op:
                nodes.append(node(op, f"{a} {b}", made))
            case op:
                nodes.append(node(op, a, made))
        values.append(made)
    outputs = draw(st.sets(st.sampled_from(values[2:]), min_size=1, max_size=3)) | {values[-1]}
    return model(nodes, sorted(outputs), w=(E, E), b=(E,))


@calm
@given(random_graphs())
def test_random_graphs(tmp_path_factory: pytest.TempPathFactory, proto: onnx.ModelProto) -> None:
    made, worst = run_both(proto, tmp_path_factory.mktemp("g"), (2, 5))
    assert worst <= RELATIVE, onnx.printer.to_text(proto)
    assert {step.engine for step in made.plan.steps} <= set(Engine)
