"""Small decoders written node by node, as exporters with fused operators write them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from support.raised import info, save

MICROSOFT = "com.microsoft"
VOCAB, HIDDEN, HEADS, KV_HEADS, HEAD_DIM, FFN, CONTEXT = 48, 64, 4, 2, 16, 96, 64
IDS = np.random.default_rng(7).integers(0, VOCAB, 14)


@dataclass
class Writer:
    """Nodes and tensors of one graph; every value has a name of its own."""

    seed: int = 0
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    tensors: dict[str, NDArray[Any] | TensorProto] = field(default_factory=dict)
    inputs: list[onnx.ValueInfoProto] = field(default_factory=list)
    outputs: list[onnx.ValueInfoProto] = field(default_factory=list)
    count: int = 0

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(self.seed)

    def name(self, like: str) -> str:
        self.count += 1
        return f"{like}_{self.count}"

    def op(
        self, op_type: str, *inputs: str, domain: str = "", outputs: int = 1, **attributes: Any
    ) -> str:
        """The first output of a new node; the others are named after it, with .1, .2, ..."""
        first = self.name(op_type)
        names = [first, *(f"{first}.{i}" for i in range(1, outputs))]
        self.nodes.append(
            helper.make_node(op_type, list(inputs), names, first, domain=domain, **attributes)
        )
        return first

    def fused(self, op_type: str, *inputs: str, outputs: int = 1, **attributes: Any) -> str:
        return self.op(op_type, *inputs, domain=MICROSOFT, outputs=outputs, **attributes)

    def tensor(self, values: NDArray[Any] | TensorProto, like: str = "w") -> str:
        name = self.name(like)
        self.tensors[name] = values
        return name

    def weight(self, k: int, n: int) -> str:
        """[K, N] that keeps the size of what it multiplies."""
        return self.tensor((self.rng.standard_normal((k, n)) * k**-0.5).astype(np.float32))

    def gain(self, n: int) -> str:
        return self.tensor((1 + 0.3 * self.rng.standard_normal(n)).astype(np.float32), "gain")

    def bias(self, n: int) -> str:
        return self.tensor((0.3 * self.rng.standard_normal(n)).astype(np.float32), "bias")

    def product(self, x: str, k: int, n: int) -> str:
        return self.op("MatMul", x, self.weight(k, n))

    def input(self, name: str, dtype: int, shape: list[int | str]) -> str:
        self.inputs.append(info(name, dtype, shape))
        return name

    def output(self, node_output: str, name: str, shape: list[int | str]) -> None:
        """Give a value of the graph out under a name."""
        self.nodes.append(helper.make_node("Identity", [node_output], [name]))
        self.outputs.append(info(name, TensorProto.FLOAT, shape))


Step = Callable[[Writer, str], str]


def lengths(w: Writer) -> tuple[str, str]:
    """(seqlens_k, total) of a mask of ones, as the builder makes them."""
    mask = "attention_mask"
    ones = w.op("ReduceSum", mask, w.tensor(np.array([1]), "axes"), keepdims=0)
    last = w.op("Cast", w.op("Sub", ones, w.tensor(np.array([1]), "one")), to=TensorProto.INT32)
    size = w.op("Gather", w.op("Shape", mask), w.tensor(np.array(1), "place"), axis=0)
    return last, w.op("Cast", size, to=TensorProto.INT32)


def past(w: Writer, name: str, heads: int = KV_HEADS, head_dim: int | str = HEAD_DIM) -> str:
    return w.input(f"past_{name}", TensorProto.FLOAT, ["batch", heads, "past", head_dim])


def present(
    w: Writer, value: str, name: str, heads: int = KV_HEADS, head_dim: int = HEAD_DIM
) -> None:
    w.output(value, f"present_{name}", ["batch", heads, "total", head_dim])


def rotations(rotary: int = HEAD_DIM, rows: int = CONTEXT) -> tuple[NDArray[Any], NDArray[Any]]:
    angles = np.arange(rows)[:, None] * 100.0 ** (-np.arange(0, rotary, 2) / rotary)
    return np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)


PACKED = (HEADS + 2 * KV_HEADS) * HEAD_DIM


def grouped_attention(
    w: Writer, x: str, rotary: bool = True, packed: str = "", **attributes: Any
) -> str:
    """GroupQueryAttention over packed q, k, v, and the projection of its result."""
    packed = packed or w.product(x, HIDDEN, PACKED)
    tables = [w.tensor(table, "table") for table in rotations()] if rotary else ["", ""]
    given = [past(w, "0.key"), past(w, "0.value")]
    if rotary:
        attributes["do_rotary"] = 1
    y = w.fused(
        "GroupQueryAttention", packed, "", "", *given, *lengths(w), *tables,
        outputs=3, num_heads=HEADS, kv_num_heads=KV_HEADS, **attributes,
    )  # fmt: skip
    present(w, f"{y}.1", "0.key")
    present(w, f"{y}.2", "0.value")
    return w.product(y, HEADS * HEAD_DIM, HIDDEN)


def rms(w: Writer, x: str) -> str:
    return w.op("SimplifiedLayerNormalization", x, w.gain(HIDDEN), epsilon=1e-5, axis=-1)


def gated(w: Writer, x: str) -> str:
    gate, up = (w.product(x, HIDDEN, FFN) for _ in range(2))
    return w.product(w.op("Mul", w.op("Mul", gate, w.op("Sigmoid", gate)), up), FFN, HIDDEN)


def looked_up(w: Writer, ids: str) -> str:
    table = w.tensor(w.rng.standard_normal((VOCAB, HIDDEN)).astype(np.float32), "table")
    return w.op("Gather", table, ids)


def head(w: Writer, x: str) -> str:
    return w.product(x, HIDDEN, VOCAB)


def decoder(
    path: Path,
    attention: Step = grouped_attention,
    norm: Step = rms,
    mlp: Step = gated,
    embedding: Step = looked_up,
    logits: Step = head,
    seed: int = 0,
    opset: int = 21,
) -> Path:
    """One layer: x + attention(norm(x)), + mlp(norm(x)), norm, logits."""
    w = Writer(seed)
    w.input("input_ids", TensorProto.INT64, ["batch", "tokens"])
    w.input("attention_mask", TensorProto.INT64, ["batch", "total"])
    w.outputs.append(info("logits", TensorProto.FLOAT, ["batch", "tokens", VOCAB]))
    x = embedding(w, "input_ids")
    x = w.op("Add", x, attention(w, norm(w, x)))
    x = w.op("Add", x, mlp(w, norm(w, x)))
    w.nodes.append(helper.make_node("Identity", [logits(w, norm(w, x))], ["logits"]))
    read = {name for node in w.nodes for name in node.input}
    w.inputs = [each for each in w.inputs if each.name in read]
    return save(path / "model.onnx", w.nodes, w.tensors, w.inputs, w.outputs, opset)
