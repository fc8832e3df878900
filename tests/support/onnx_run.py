"""Runs an exported model in onnxruntime, carrying the caches from call to call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

F32 = NDArray[np.float32]


def session(model: onnx.ModelProto | str, optimise: bool = True) -> onnxruntime.InferenceSession:
    """One thread; without `optimise` the nodes run as they are written."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    if not optimise:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    source = model if isinstance(model, str) else model.SerializeToString()
    return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])


@dataclass
class OnnxState:
    """The position, and the past by input name."""

    position: int = 0
    past: dict[str, F32] = field(default_factory=dict)


def run_onnx(
    engine: onnxruntime.InferenceSession,
    tokens: Sequence[int] | NDArray,
    state: OnnxState,
    ports: Mapping[str, NDArray] | None = None,
) -> tuple[dict[str, F32], OnnxState]:
    """All outputs by name, and the state after the tokens; `ports` are ids beside the tokens."""
    others = ports or {}
    feeds: dict[str, NDArray] = {}
    for given in engine.get_inputs():
        match given.name:
            case "tokens":
                feeds["tokens"] = np.asarray(tokens, np.int32)
            case "position":
                feeds["position"] = np.array(state.position, np.int64)
            case name if name in others:
                feeds[name] = np.asarray(others[name], np.int32)
            case name:
                _, heads, _, head_dim = given.shape
                empty = np.zeros((1, heads, 0, head_dim), np.float32)
                feeds[name] = state.past.get(name, empty)
    names = [output.name for output in engine.get_outputs()]
    results = dict(zip(names, engine.run(names, feeds), strict=True))
    past = {
        name.replace("present.", "past."): value
        for name, value in results.items()
        if name.startswith("present.")
    }
    return results, OnnxState(state.position + len(tokens), past)
