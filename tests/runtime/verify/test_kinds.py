"""Golden vectors of encoders, graphs and archives without a tokenizer: made, replayed, and found when stale."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from conftest import Archives
from onnx import TensorProto, helper, numpy_helper
from support.command_line import hearth
from support.encoders import compile_encoder, write_encoder
from support.forging import rewritten, typed

from hearth.runtime import native
from hearth.runtime.archive import open_archive
from hearth.runtime.verify.draws import KNOWN, draw, draw_ids
from hearth.runtime.verify.report import Outcome, Report
from hearth.schemas import sections
from hearth.schemas.codec import loads
from hearth.schemas.golden import Golden

Run = Callable[..., Report]
RELEASED = sorted((Path(__file__).parents[2] / "archives").glob("v1-*.har"))


def golden_of(path: Path) -> Golden:
    return loads(Golden, open_archive(path).section(sections.GOLDEN), sections.GOLDEN)


def outcome(report: Report, step: str) -> Outcome:
    return next(each.outcome for each in report.steps if each.name == step)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("encoder")
    return compile_encoder(write_encoder(folder / "src"), folder / "m.har", weights="int8")


def test_an_encoder_is_verified_on_every_isa(encoder: Path, run: Run) -> None:
    golden = golden_of(encoder)
    assert golden.vectors
    assert not golden.tokens
    assert all(case.embedding.first and case.hidden.first for case in golden.vectors)
    report = run(encoder, isas=tuple(native.isas()))
    assert report.passed
    assert outcome(report, "golden") is Outcome.PASSED


def test_a_stale_vector_is_found(encoder: Path, tmp_path: Path, run: Run) -> None:
    for name in ("embedding", "hidden"):

        def stale(golden: Golden, name: str = name) -> Golden:
            last = golden.vectors[-1]
            wrong = replace(getattr(last, name), sha256="0" * 64)
            return replace(golden, vectors=(*golden.vectors[:-1], replace(last, **{name: wrong})))

        forged = rewritten(
            encoder, tmp_path / f"{name}.har", {sections.GOLDEN: typed(Golden, stale)}
        )
        failure, changed = run(forged).failures
        assert (failure.code, name in str(failure)) == ("verify.golden", True)
        assert changed.code == "verify.provenance"


def test_a_decoder_without_a_tokenizer(archives: Archives, run: Run) -> None:
    path = archives("tiny", weights="f32", kv="f32")
    golden = golden_of(path)
    chunk = open_archive(path).manifest.chunk
    context = open_archive(path).manifest.context
    assert [len(case.ids) for case in golden.tokens] == [
        count for count in (1, 12, chunk + 3) if count + 4 <= context
    ]
    assert not golden.texts
    report = run(path, isas=tuple(native.isas()))
    assert report.passed
    assert outcome(report, "tokenizer") is Outcome.SKIPPED


@pytest.mark.parametrize("context", [1, 2, 5, 128])
def test_any_context_has_room_for_a_case(context: int, archives: Archives, run: Run) -> None:
    path = archives("tiny", weights="int8", context=context)
    cases = golden_of(path).tokens
    assert cases
    assert all(len(case.ids) + len(case.continuation) <= context for case in cases)
    assert run(path).passed


def write_graph(path: Path, *nodes: onnx.NodeProto, opset: int = 20) -> Path:
    weights = np.random.default_rng(0).standard_normal((6, 5)).astype(np.float32)
    graph = helper.make_graph(
        list(nodes), "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 6])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(weights, "w")],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    model.ir_version = 10
    onnx.save(model, path)
    return path


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    source = write_graph(
        tmp_path / "g.onnx",
        helper.make_node("MatMul", ["x", "w"], ["z"]),
        helper.make_node("Erf", ["z"], ["y"]),
    )
    assert hearth("compile", source, "-o", tmp_path / "g.har") == 0
    return tmp_path / "g.har"


def test_a_graph_is_verified(graph: Path, run: Run) -> None:
    (case,) = golden_of(graph).graphs
    assert case.inputs["x"].shape == (2, 6)
    assert len(case.outputs["y"].values) == 10
    assert case.tolerance == 2e-4
    report = run(graph)
    assert report.passed
    assert outcome(report, "golden") is Outcome.PASSED


def nudged(by: float) -> Callable[[Golden], Golden]:
    """Every value of the output moved by `by` times its largest."""

    def change(golden: Golden) -> Golden:
        (case,) = golden.graphs
        old = case.outputs["y"]
        values = tuple(value + by * old.largest for value in old.values)
        new = replace(old, values=values, sha256="0" * 64)
        return replace(golden, graphs=(replace(case, outputs={"y": new}),))

    return change


@pytest.mark.parametrize(("by", "passes"), [(1e-5, True), (1e-3, False)])
def test_a_graph_may_differ_within_its_tolerance(
    by: float, passes: bool, graph: Path, tmp_path: Path, run: Run
) -> None:
    edited = {sections.GOLDEN: typed(Golden, nudged(by))}
    report = run(rewritten(graph, tmp_path / "f.har", edited))
    assert (outcome(report, "golden") is Outcome.PASSED) is passes


def test_a_graph_that_draws_itself_has_no_case(
    tmp_path: Path, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_graph(
        tmp_path / "g.onnx",
        helper.make_node("RandomNormalLike", ["x"], ["r"]),
        helper.make_node("Add", ["x", "r"], ["y"]),
    )
    assert hearth("compile", source, "-o", tmp_path / "g.har") == 0
    assert "no golden vectors" in capsys.readouterr().out
    assert not golden_of(tmp_path / "g.har").graphs
    report = run(tmp_path / "g.har")
    assert report.passed
    assert outcome(report, "golden") is Outcome.SKIPPED


@pytest.mark.parametrize("path", RELEASED, ids=lambda path: path.stem)
def test_archives_of_version_1_are_verified_as_far_as_they_go(path: Path, run: Run) -> None:
    report = run(path)
    assert report.passed
    assert [outcome(report, step) for step in ("hashes", "plan")] == [Outcome.PASSED] * 2
    skipped = ("provenance", "tokenizer", "golden")
    assert [outcome(report, step) for step in skipped] == [Outcome.SKIPPED] * 3


def test_the_real_encoder(tmp_path: Path, run: Run) -> None:
    from support.minilm import minilm

    output = tmp_path / "m.har"
    assert hearth("compile", minilm(), "-o", output, "--weights", "int8", "--check") == 0
    report = run(output)
    assert report.passed
    assert any(any(case.types) for case in golden_of(output).vectors), "no pair of texts"


# draws


def test_draws_are_the_same_everywhere() -> None:
    """Written down here: a change of these changes every golden vector of every graph."""
    found = draw(1, "x", "float32", (4,))
    assert found is not None
    np.testing.assert_array_equal(
        found, np.float32([0.193115234375, 0.36392211914062, -0.472686767578125, 0.2574768066406])
    )
    assert draw_ids(1, "a", 5, 100) == [12, 81, 17, 28, 33]


@pytest.mark.parametrize("dtype", sorted(KNOWN))
def test_draws_of_every_type(dtype: str) -> None:
    found = draw(3, "x", dtype, (5, 40))
    assert found is not None
    assert (found.dtype, found.shape) == (np.dtype(dtype), (5, 40))
    assert len(np.unique(found)) >= 2
    assert found.min() >= -1
    assert found.max() <= 1
    other: Any = draw(3, "y", dtype, (5, 40))
    assert not np.array_equal(found, other)


def test_draws_of_nothing() -> None:
    assert draw(1, "x", "str", (3,)) is None
    empty = draw(1, "x", "float32", (0, 3))
    assert empty is not None
    assert empty.shape == (0, 3)
