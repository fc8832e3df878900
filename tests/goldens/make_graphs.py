"""Writes graphs/*.onnx: models of a few KB as other tools export them, the same bytes wherever this runs.

`python tests/goldens/make_graphs.py` (a test compares its result with the files). Weights are drawn by SHAKE-128 and
tables rounded to 12 bits, so that neither numpy nor a libm decides a bit.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

FOLDER = Path(__file__).parent / "graphs"
VOCAB, E, HEADS, KV_HEADS, D, FFN, CONTEXT = 48, 16, 2, 1, 8, 32, 32
BLOCK = 16  # K-values that share a scale of a 4-bit weight
EPS = 1e-5
F32 = NDArray[np.float32]
Shape = Sequence[int | str]


class Builder:
    """Collects nodes and initialisers; names are those of what a tensor is."""

    def __init__(self) -> None:
        self.nodes: list[NodeProto] = []
        self.tensors: list[TensorProto] = []

    def add(self, op: str, *inputs: str, out: str, domain: str = "", **attributes: Any) -> str:
        """One node with one output."""
        outputs = [out]
        return self.add_all(op, inputs, outputs, domain, **attributes)[0]

    def add_all(
        self,
        op: str,
        inputs: Sequence[str],
        outputs: list[str],
        domain: str = "",
        **attributes: Any,
    ) -> list[str]:
        self.nodes.append(
            helper.make_node(
                op, inputs, outputs, name=f"{outputs[0]}/{op}", domain=domain, **attributes
            )
        )
        return outputs

    def hold(self, name: str, values: NDArray[Any]) -> str:
        """An initialiser."""
        self.tensors.append(numpy_helper.from_array(values, name))
        return name

    def weight(self, name: str, *shape: int) -> str:
        return self.hold(name, drawn(name, shape))

    def gain(self, name: str, size: int) -> str:
        return self.hold(name, 1 + drawn(name, (size,)) / 4)

    def model(self, name: str, inputs: Sequence[Any], outputs: Sequence[Any]) -> ModelProto:
        graph: GraphProto = helper.make_graph(self.nodes, name, inputs, outputs, self.tensors)
        opsets = [helper.make_opsetid("", 23), helper.make_opsetid("com.microsoft", 1)]
        return helper.make_model(
            graph, opset_imports=opsets, ir_version=10, producer_name="make_graphs"
        )


def drawn(name: str, shape: Sequence[int]) -> F32:
    """Even numbers of 2^-9 between -0.5 and 0.5."""
    data = hashlib.shake_128(name.encode()).digest(math.prod(shape))
    codes = np.frombuffer(data, np.int8).astype(np.float32)
    return (codes / np.float32(256)).reshape(shape)


def port(name: str, shape: Shape, kind: int = TensorProto.FLOAT) -> Any:
    return helper.make_tensor_value_info(name, kind, shape)


def ids(name: str) -> Any:
    return port(name, ("batch", "sequence"), TensorProto.INT64)


def rope(b: Builder) -> None:
    """Tables f32[CONTEXT, D / 2]."""
    angles = [
        [position * 10000 ** (-2 * pair / D) for pair in range(D // 2)]
        for position in range(CONTEXT)
    ]
    for name, of in (("cos", math.cos), ("sin", math.sin)):
        table = [[round(of(angle) * 4096) / 4096 for angle in row] for row in angles]
        b.hold(name, np.array(table, np.float32))


def dense(b: Builder, x: str, name: str, rows: int, columns: int) -> str:
    """y = x w, w f32[rows, columns]."""
    return b.add("MatMul", x, b.weight(f"{name}.weight", rows, columns), out=name)


def dense4(b: Builder, x: str, name: str, rows: int, columns: int) -> str:
    """The same with 4-bit weights in blocks of 16, as onnxruntime's quantiser writes them (MatMulNBits)."""
    blocks = rows // BLOCK
    data = hashlib.shake_128(f"{name}.codes".encode()).digest(columns * blocks * BLOCK // 2)
    codes = b.hold(
        f"{name}.codes", np.frombuffer(data, np.uint8).reshape(columns, blocks, BLOCK // 2)
    )
    scales = b.hold(f"{name}.scales", np.abs(drawn(f"{name}.scales", (columns, blocks))) / 8 + 0.01)
    return b.add(
        "MatMulNBits", x, codes, scales, out=name, domain="com.microsoft",
        K=rows, N=columns, bits=4, block_size=BLOCK,
    )  # fmt: skip


def heads(b: Builder, x: str, name: str, count: int) -> str:
    """[B, T, count * D] -> [B, count, T, D]."""
    shape = b.hold(f"{name}.shape", np.array([0, 0, count, D], np.int64))
    return b.add(
        "Transpose", b.add("Reshape", x, shape, out=f"{name}.cut"), out=name, perm=[0, 2, 1, 3]
    )


def norm(b: Builder, x: str, name: str) -> str:
    gain = b.gain(f"{name}.weight", E)
    return b.add("RMSNormalization", x, gain, out=name, axis=-1, epsilon=EPS)


def attention(b: Builder, x: str, make: Any) -> str:
    """With the standard's own operators, keys and values kept from call to call."""
    q, k, v = (
        heads(b, make(b, x, f"{name}_proj", E, count * D), name, count)
        for name, count in (("q", HEADS), ("k", KV_HEADS), ("v", KV_HEADS))
    )
    turned = [
        b.add("RotaryEmbedding", each, "cos", "sin", "position_ids", out=f"{each}.turned")
        for each in (q, k)
    ]
    past = [f"past_key_values.0.{half}" for half in ("key", "value")]
    present = [f"present.0.{half}" for half in ("key", "value")]
    b.add_all(
        "Attention", [*turned, v, "attention_mask4", *past], ["attended", *present], is_causal=0
    )
    flat = b.hold("attended.shape", np.array([0, 0, HEADS * D], np.int64))
    turned_back = b.add("Transpose", "attended", out="attended.rows", perm=[0, 2, 1, 3])
    return make(b, b.add("Reshape", turned_back, flat, out="joined"), "o_proj", HEADS * D, E)


def causal_mask(b: Builder) -> None:
    """[1, 1, T, P + T]: a column is seen by rows whose position is not before it."""
    b.hold("zero", np.array(0, np.int64))
    b.hold("one", np.array(1, np.int64))
    b.hold("axes", np.array([0, 1], np.int64))
    sizes = {"T": ("input_ids", 1), "P": ("past_key_values.0.key", 2)}
    for name, (value, axis) in sizes.items():
        shape = b.add("Shape", value, out=f"{name}.shape")
        b.add("Gather", shape, b.hold(f"{name}.axis", np.array(axis, np.int64)), out=name, axis=0)
    b.add("Add", "P", "T", out="S")
    b.add("Range", "zero", "S", "one", out="columns")
    b.add("Range", "P", "S", "one", out="rows")
    b.add("Unsqueeze", "rows", "one.axis", out="rows.column")
    b.hold("one.axis", np.array([1], np.int64))
    b.add("GreaterOrEqual", "rows.column", "columns", out="seen")
    b.add("Unsqueeze", "seen", "axes", out="attention_mask4")


def decoder(make: Any, name: str) -> ModelProto:
    """A Llama of one layer with a KV cache, its linears made by `make`."""
    b = Builder()
    rope(b)
    causal_mask(b)
    x = b.add("Gather", b.weight("embed.weight", VOCAB, E), "input_ids", out="embedded")
    x = b.add("Add", x, attention(b, norm(b, x, "input_norm"), make), out="after_attention")
    h = norm(b, x, "post_norm")
    gate, up = (make(b, h, f"{each}_proj", E, FFN) for each in ("gate", "up"))
    silu = b.add("Mul", gate, b.add("Sigmoid", gate, out="sigmoid"), out="silu")
    mixed = b.add("Mul", silu, up, out="mixed")
    x = b.add("Add", x, make(b, mixed, "down_proj", FFN, E), out="after_mlp")
    b.add("MatMul", norm(b, x, "norm"), b.weight("head.weight", E, VOCAB), out="logits")
    cache = ("batch", KV_HEADS, "past", D)
    longer = ("batch", KV_HEADS, "total", D)
    halves = ("key", "value")
    return b.model(
        name,
        [
            ids("input_ids"),
            ids("position_ids"),
            *(port(f"past_key_values.0.{half}", cache) for half in halves),
        ],
        [
            port("logits", ("batch", "sequence", VOCAB)),
            *(port(f"present.0.{half}", longer) for half in halves),
        ],
    )


def encoder() -> ModelProto:
    """A BERT of one layer, attention and gelu written out."""
    b = Builder()
    words = b.add("Gather", b.weight("words", VOCAB, E), "input_ids", out="words.rows")
    kinds = b.add("Gather", b.weight("types", 2, E), "token_type_ids", out="types.rows")
    b.hold("axis0", np.array([0], np.int64))
    b.hold("axis1", np.array([1], np.int64))
    b.hold("axes12", np.array([1, 2], np.int64))
    b.hold("two", np.array([2], np.int64))
    shape = b.add("Shape", "input_ids", out="ids.shape")
    length = b.add("Slice", shape, "axis1", "two", "axis0", out="length")
    places = b.add(
        "Slice", b.weight("positions", CONTEXT, E), "axis0", length, "axis0", out="positions.rows"
    )
    x = b.add("Add", b.add("Add", words, kinds, out="words+types"), places, out="embedded")
    x = layer_norm(b, x, "embed_norm")
    x = layer_norm(b, b.add("Add", x, plain_attention(b, x), out="attention+x"), "attention_norm")
    h = gelu(b, biased(b, x, "up", E, FFN))
    x = b.add("Add", x, biased(b, h, "down", FFN, E), out="mlp+x")
    layer_norm(b, x, "last_hidden_state")
    inputs = [ids(name) for name in ("input_ids", "attention_mask", "token_type_ids")]
    return b.model("encoder", inputs, [port("last_hidden_state", ("batch", "sequence", E))])


def layer_norm(b: Builder, x: str, out: str) -> str:
    gain, bias = b.gain(f"{out}.weight", E), b.weight(f"{out}.bias", E)
    return b.add("LayerNormalization", x, gain, bias, out=out, axis=-1, epsilon=1e-12)


def biased(b: Builder, x: str, name: str, rows: int, columns: int) -> str:
    product = dense(b, x, f"{name}.product", rows, columns)
    return b.add("Add", product, b.weight(f"{name}.bias", columns), out=name)


def gelu(b: Builder, x: str) -> str:
    """x / 2 * (1 + erf(x / sqrt(2)))."""
    b.hold("root", np.array(math.sqrt(2), np.float32))
    b.hold("half", np.array(0.5, np.float32))
    b.hold("unit", np.array(1, np.float32))
    erf = b.add("Erf", b.add("Div", x, "root", out="x/root"), out="erf")
    scaled = b.add("Mul", x, b.add("Add", erf, "unit", out="1+erf"), out="x(1+erf)")
    return b.add("Mul", scaled, "half", out="gelu")


def plain_attention(b: Builder, x: str) -> str:
    """softmax(q k / sqrt(D) + mask) v, every row seeing every word that the mask has."""
    q, k, v = (heads(b, biased(b, x, f"{n}_proj", E, E), n, HEADS) for n in ("q", "k", "v"))
    turned = b.add("Transpose", k, out="k.turned", perm=[0, 1, 3, 2])
    scores = b.add("MatMul", q, turned, out="scores")
    b.hold("scale", np.array(math.sqrt(D), np.float32))
    b.hold("far", np.array(-10000, np.float32))
    b.hold("full", np.array(1, np.float32))
    mask = b.add("Unsqueeze", "attention_mask", "axes12", out="mask4")
    floats = b.add("Cast", mask, out="mask.f32", to=TensorProto.FLOAT)
    hidden = b.add("Mul", b.add("Sub", "full", floats, out="1-mask"), "far", out="bias")
    scaled = b.add("Div", scores, "scale", out="scaled")
    weights = b.add("Softmax", b.add("Add", scaled, hidden, out="masked"), out="weights", axis=-1)
    rows = b.add(
        "Transpose", b.add("MatMul", weights, v, out="mixed"), out="rows", perm=[0, 2, 1, 3]
    )
    flat = b.hold("rows.shape", np.array([0, 0, E], np.int64))
    return biased(b, b.add("Reshape", rows, flat, out="joined"), "o_proj", E, E)


def general() -> ModelProto:
    """A small image classifier: nothing of it is a language model."""
    b = Builder()
    kernel = b.weight("conv.weight", 4, 1, 3, 3)
    x = b.add("Conv", "image", kernel, out="conv", pads=[1, 1, 1, 1])
    x = b.add(
        "MaxPool", b.add("Relu", x, out="relu"), out="pool", kernel_shape=[2, 2], strides=[2, 2]
    )
    x = b.add("Flatten", x, out="flat")
    b.add("Gemm", x, b.weight("fc.weight", 64, 5), b.weight("fc.bias", 5), out="scores")
    b.add("ArgMax", "scores", out="best", axis=1, keepdims=0)
    image = port("image", ("n", 1, 8, 8))
    return b.model(
        "general", [image], [port("scores", ("n", 5)), port("best", ("n",), TensorProto.INT64)]
    )


def graphs() -> dict[str, bytes]:
    """Every file by its name."""
    models = {
        "decoder": decoder(dense, "decoder"),
        "nbits": decoder(dense4, "nbits"),
        "encoder": encoder(),
        "general": general(),
    }
    return {
        f"{name}.onnx": model.SerializeToString(deterministic=True)
        for name, model in models.items()
    }


def main() -> None:
    """Write them all."""
    FOLDER.mkdir(exist_ok=True)
    for name, data in graphs().items():
        (FOLDER / name).write_bytes(data)


if __name__ == "__main__":
    main()
