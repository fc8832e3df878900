"""Raise an ONNX decoder in a test, and compare it with onnxruntime running the source: prefill, then token by token."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper

from hearth.compiler.frontend.onnx.reader import read_model
from hearth.compiler.frontend.onnx.whole import NotRaised, Raised, raise_model
from hearth.compiler.frontend.sentence import Sentence
from hearth.compiler.ir.constants import Constants
from hearth.compiler.ir.evaluate import evaluate
from hearth.compiler.ir.graph import Graph
from hearth.compiler.ir.state import State
from hearth.schemas.commands import KVScheme

F32 = NDArray[np.float32]
RELATIVE = 2e-4  # of the largest logit


def raised(path: Path, context: int = 64) -> Raised:
    """The raised model; the test fails with the reasons where it was not."""
    found = try_raise(path, context)
    assert isinstance(found, Raised), "\n".join(map(str, found.reasons))
    return found


def try_raise(path: Path, context: int = 64) -> Raised | NotRaised:
    return raise_model(read_model(path), context=context, kv=KVScheme.F32, sentence=Sentence())


def reasons(path: Path, context: int = 64) -> str:
    """Why a model that must not be raised was not."""
    found = try_raise(path, context)
    assert isinstance(found, NotRaised)
    return "\n".join(map(str, found.reasons))


@dataclass
class Source:
    """The source in onnxruntime, its caches kept between calls."""

    session: onnxruntime.InferenceSession
    past: dict[str, NDArray[Any]]
    position: int = 0

    @classmethod
    def open(cls, model: Path | onnx.ModelProto) -> Source:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        # its optimisations quantise activations where they fuse a dequantised weight
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        data = str(model) if isinstance(model, Path) else model.SerializeToString()
        session = onnxruntime.InferenceSession(data, options, ["CPUExecutionProvider"])
        return cls(session, {})

    def feed(self, tokens: NDArray[np.int64]) -> F32:
        """Logits [T, V]."""
        end = self.position + len(tokens)
        fed: dict[str, NDArray[Any]] = {}
        for info in self.session.get_inputs():
            dtype = {"tensor(int64)": np.int64, "tensor(int32)": np.int32}.get(info.type)
            if "past" in info.name:
                fed[info.name] = self.past.get(info.name, _empty(info))
            elif "mask" in info.name:
                fed[info.name] = np.ones((1, end), dtype or np.float32)
            elif "position" in info.name:
                fed[info.name] = np.arange(self.position, end, dtype=dtype)[None]
            else:
                fed[info.name] = tokens.astype(dtype or np.int64)[None]
        logits, *presents = self.session.run(None, fed)
        names = [info.name for info in self.session.get_inputs() if "past" in info.name]
        given = {
            _key(o.name): p for o, p in zip(self.session.get_outputs()[1:], presents, strict=False)
        }
        self.past = {name: given[_key(name)] for name in names}
        self.position = end
        return np.asarray(logits[0], np.float32)


def _key(name: str) -> str:
    """past_key_values.0.key, present.0.key -> 0.key; past_0, present_0 -> 0."""
    return (
        name.replace("past_key_values", "present")
        .removeprefix("past")
        .removeprefix("present")
        .strip("._")
    )


def _empty(info: Any) -> NDArray[Any]:
    dtype = np.float16 if "float16" in info.type else np.float32
    known = [size if isinstance(size, int) else None for size in info.shape]
    shape = [1 if size is None else size for size in known]
    unknown = [i for i, size in enumerate(known) if size is None]
    shape[unknown[-1] if len(unknown) < 3 else unknown[1]] = 0
    if len(unknown) == 3:
        shape[unknown[2]] = HEAD_DIM
    return np.zeros(shape, dtype)


HEAD_DIM = 16  # of exports that leave the head's size open


def compare(
    found: Graph, source: Path | onnx.ModelProto, ids: NDArray[np.int64], relative: float = RELATIVE
) -> F32:
    """The evaluated graph agrees with onnxruntime in every logit: all but two tokens at once, then one by one."""
    run, state, kept = Source.open(source), State.empty(), Constants(keep=True)
    rows: list[F32] = []
    for part in (ids[:-2], ids[-2:-1], ids[-1:]):
        want = run.feed(part)
        logits, state = evaluate(found, "main", part, state, constants=kept)
        scale = float(np.abs(want).max())
        worst = float(np.abs(logits - want).max())
        assert worst <= relative * scale, f"{worst} of {scale}"
        assert np.array_equal(logits.argmax(-1), want.argmax(-1)) or worst > 0
        rows.append(logits)
    return np.concatenate(rows)


def info(name: str, dtype: int, shape: list[int | str]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, dtype, shape)


def save(
    path: Path,
    nodes: list[onnx.NodeProto],
    tensors: Mapping[str, NDArray[Any] | onnx.TensorProto],
    inputs: list[onnx.ValueInfoProto],
    outputs: list[onnx.ValueInfoProto],
    opset: int = 21,
) -> Path:
    """A model file; weights stay inside it."""
    stored = [
        value
        if isinstance(value, TensorProto)
        else onnx.numpy_helper.from_array(np.asarray(value, order="C"), name)
        for name, value in tensors.items()
    ]
    for name, tensor in zip(tensors, stored, strict=True):
        tensor.name = name
    graph = helper.make_graph(nodes, "test", inputs, outputs, stored)
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=10), path)
    return path
