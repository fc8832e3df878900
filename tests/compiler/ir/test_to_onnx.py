"""Whole decoders at every stage, run by onnxruntime: interface, agreement, files; and that the check can fail."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from support import phi
from support.agreement import Agreement
from support.checkpoints import GEMMA, GEMMA2, GEMMA3, PARTLY_TURNED, write_checkpoint
from support.graphs import MEASURELESS, Tiny, decoder
from support.onnx_run import OnnxState, run_onnx, session

from hearth.compiler.frontend import load
from hearth.compiler.ir import arithmetic, evaluate_attention
from hearth.compiler.ir.evaluate import State, evaluate
from hearth.compiler.ir.graph import Graph
from hearth.compiler.ir.to_onnx import initializers as initializers_module
from hearth.compiler.ir.to_onnx import save_onnx, to_onnx
from hearth.compiler.passes import FLOAT_PASSES, QUANTISED_PASSES, run_passes
from hearth.compiler.quantize import make_scheme, quantize
from hearth.compiler.quantize.schemes import F16, F32, INT4_G32, INT8, Scheme, WeightScheme
from hearth.schemas.commands import KVScheme

IDS = np.random.default_rng(3).integers(0, 53, 17)

SHAPES = {
    "plain": Tiny(),
    "bias, untied, f16 cache": Tiny(bias=True, tied=False, kv=KVScheme.F16),
    "window, partial rotation, int8 cache": Tiny(window=5, rotary=4, kv=KVScheme.INT8),
    "head norms": Tiny(head_norms=True, kv=KVScheme.INT8),
    "one KV head": Tiny(heads=3, kv_heads=1, head_dim=16, layers=1),
    "as many KV heads": Tiny(heads=2, kv_heads=2, head_dim=12, layers=1, kv=KVScheme.INT8),
}


def stages(tiny: Tiny, weights: WeightScheme, activations: Any) -> list[tuple[str, Graph]]:
    return stages_of(decoder(tiny), make_scheme(weights, activations, tiny.kv))


def stages_of(graph: Graph, scheme: Scheme) -> list[tuple[str, Graph]]:
    """Each distinct graph from the frontend's form to the last quantised pass."""
    found = [("frontend", graph)]

    def observe(name: str, graph: Graph) -> None:
        if graph is not found[-1][1]:
            found.append((name, graph))

    fused = run_passes(FLOAT_PASSES, found[0][1], observe=observe)
    coded = quantize(fused, scheme)
    observe("quantise", coded)
    run_passes(QUANTISED_PASSES, coded, observe=observe)
    return found


def check_stage(graph: Graph) -> None:
    state = State.empty()
    first = next(iter(graph.entries))
    checked = Agreement(graph, first, logit_rows=3)
    for start, stop in ((0, 9), (9, 14)):
        state = checked.check(IDS[start:stop], state)
    if "decode" in graph.entries:
        decode = Agreement(graph, "decode", constants=checked.constants)
        for token in IDS[14:]:
            state = decode.check([int(token)], state)


@pytest.mark.parametrize("shape", SHAPES)
def test_every_stage_of_every_shape_agrees(shape: str) -> None:
    for _, graph in stages(SHAPES[shape], INT4_G32, "dynamic"):
        check_stage(graph)


FAMILIES = {
    "gemma": (GEMMA, None),
    "gemma2": (GEMMA2, None),
    "gemma3": (GEMMA3, None),
    "phi": (phi.PHI, phi.random_tensors(phi.PHI)),
    "phi3, longrope of a part": (PARTLY_TURNED, None),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_every_stage_of_families_agrees(family: str, tmp_path: Path) -> None:
    source = write_checkpoint(tmp_path, *FAMILIES[family])
    graph = load(source, context=32, kv=KVScheme.INT8).graph
    for _, each in stages_of(graph, make_scheme(INT4_G32, "dynamic", KVScheme.INT8)):
        check_stage(each)


@pytest.mark.parametrize("kv", MEASURELESS)
@pytest.mark.parametrize(
    ("weights", "activations"),
    [(F16, "none"), (INT8, "none"), (INT8, "dynamic"), (INT4_G32, "none")],
    ids=lambda value: getattr(value, "name", value),
)
def test_every_scheme_agrees(weights: WeightScheme, activations: str, kv: KVScheme) -> None:
    tiny = Tiny(hidden=32, ffn=64, heads=4, head_dim=8, layers=1, kv=kv, bias=True)
    for _, graph in stages(tiny, weights, activations)[-2:]:
        check_stage(graph)


def test_the_interface() -> None:
    graph = run_passes(FLOAT_PASSES, decoder(Tiny(layers=2)))
    model = to_onnx(graph, "prefill", logit_rows=2)
    onnx.checker.check_model(model, full_check=True)
    engine = session(model)
    shapes = {given.name: given.shape for given in engine.get_inputs()}
    cached = {f"past.{kind}.{layer}": [1, 2, "P", 8] for kind in "kv" for layer in (0, 1)}
    assert shapes == {"tokens": ["T"], "position": [], **cached}
    outputs = {result.name: result.shape for result in engine.get_outputs()}
    presents = {name.replace("past", "present"): [1, 2, "P + T", 8] for name in cached}
    assert outputs == {"logits": [2, 53], **presents}
    assert [entry.version for entry in model.opset_import] == [23]
    kinds = {node.op_type for node in model.graph.node}
    assert {"RMSNormalization", "RotaryEmbedding", "Attention", "Gemm"} <= kinds


def test_int4_is_written_in_blocks() -> None:
    tiny = Tiny(hidden=64, ffn=96, tied=False)
    model = to_onnx(stages(tiny, INT4_G32, "dynamic")[-1][1], "decode")
    onnx.checker.check_model(model, full_check=True)
    types = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    assert types["lm_head.weight"] == onnx.TensorProto.INT4
    assert types["model.embed_tokens.weight"] == onnx.TensorProto.INT8
    blocks = [
        attribute.i
        for node in model.graph.node
        for attribute in node.attribute
        if node.op_type == "DequantizeLinear" and attribute.name == "block_size"
    ]
    assert blocks
    assert set(blocks) == {32}


def test_a_saved_model_is_the_same_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(initializers_module, "BLOCK_ELEMENTS", 200)
    monkeypatch.setattr(initializers_module, "INLINE_NBYTES", 64)
    graph = stages(Tiny(hidden=64, ffn=96, tied=False), INT4_G32, "dynamic")[-1][1]
    paths = [tmp_path / name / "model.onnx" for name in ("a", "b")]
    for path in paths:
        path.parent.mkdir()
        save_onnx(graph, "prefill", path)
    assert paths[0].read_bytes() == paths[1].read_bytes()
    data = [path.with_name("model.onnx.data").read_bytes() for path in paths]
    assert data[0] == data[1]
    saved, _ = run_onnx(session(str(paths[0])), IDS, OnnxState())
    inside, _ = run_onnx(session(to_onnx(graph, "prefill")), IDS, OnnxState())
    np.testing.assert_array_equal(saved["logits"], inside["logits"])


def test_a_failed_save_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError("no space")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="no space"):
        save_onnx(decoder(), "main", tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


def test_a_model_as_users_run_it_says_the_same_text() -> None:
    """All of onnxruntime's optimisations on, its own caches from call to call: the same greedy tokens."""
    graph = run_passes(FLOAT_PASSES, decoder(Tiny(seed=4)))
    engines = {name: session(to_onnx(graph, name)) for name in ("prefill", "decode")}
    (logits, state), past = evaluate(graph, "prefill", IDS, State.empty()), OnnxState()
    results, past = run_onnx(engines["prefill"], IDS, past)
    for _ in range(12):
        token = int(logits[-1].argmax())
        assert int(results["logits"][-1].argmax()) == token
        logits, state = evaluate(graph, "decode", [token], state)
        results, past = run_onnx(engines["decode"], [token], past)


def wrong_rope(x: np.ndarray, cos: np.ndarray, sin: np.ndarray) -> np.ndarray:
    return arithmetic_rope(x, cos, -sin)


def wrong_norm(x: np.ndarray, gain: np.ndarray | None, eps: float) -> np.ndarray:
    return arithmetic_norm(x, gain, 2 * eps)


def wrong_silu(x: np.ndarray) -> np.ndarray:
    return arithmetic_silu(x) * np.float32(1 + 2.0**-18)


def wrong_codes(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    codes, scale = arithmetic_quantize(x)
    return np.where(codes == 3, 4, codes).astype(np.int8), scale


def wrong_window(
    q: Any, k: Any, v: Any, position: int, scale: float, window: int, *rest: Any
) -> Any:
    return arithmetic_attend(q, k, v, position, scale, window + 1, *rest)


arithmetic_rope, arithmetic_norm = arithmetic.rope, arithmetic.rms_norm
arithmetic_silu, arithmetic_quantize = arithmetic.silu, arithmetic.quantize
arithmetic_attend = evaluate_attention.attend


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("arithmetic.rope", wrong_rope),
        ("arithmetic.rms_norm", wrong_norm),
        ("arithmetic.silu", wrong_silu),
        ("arithmetic.quantize", wrong_codes),
        ("meanings.attend", wrong_window),
    ],
)
def test_the_check_sees_small_errors(
    name: str, wrong: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny = Tiny(layers=1, window=4, kv=KVScheme.INT8)
    graph = stages(tiny, F32, "none")[0][1]
    check_stage(graph)
    monkeypatch.setattr(f"hearth.compiler.ir.{name}", wrong)
    with pytest.raises(AssertionError):
        check_stage(graph)
