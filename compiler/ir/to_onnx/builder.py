"""Collects nodes, inputs and initializers of the exported model, each made once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from hearth.compiler.ir.ops import Constant, Embedding, Input, Op, PositionEmbedding, Tokens, tensor
from hearth.compiler.ir.rewrite import order
from hearth.compiler.ir.tensors import GroupedSource, QuantisedSource
from hearth.compiler.ir.to_onnx.initializers import (
    Dequantised,
    Sink,
    fits_blocks,
    fits_int4,
    put_array,
    put_float,
    put_grouped,
    put_int4,
    put_int8,
)
from hearth.compiler.ir.to_onnx.values import Cached, Coded, Value
from hearth.compiler.ir.types import Dim
from hearth.schemas.dtypes import DType


class Builder:
    """Rules append nodes through `node`; names tell the op's number in the text dump and the node's type."""

    def __init__(self, sink: Sink, outputs: Sequence[Op], logit_rows: int) -> None:
        self.values: dict[Op, Value] = {}
        self.nodes: list[onnx.NodeProto] = []
        self.inputs: list[onnx.ValueInfoProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self.logit_rows = logit_rows
        self._sink = sink
        self._prefix = ""
        self._names: Counter[str] = Counter()
        self._made: dict[object, str] = {}
        sequence = order(outputs)
        self._tables = {
            op.table for op in sequence if isinstance(op, Embedding | PositionEmbedding)
        }
        self._ports = [op.port for op in sequence if isinstance(op, Tokens | Input)]
        self._presents: dict[Cached, str] = {}

    @contextmanager
    def within(self, prefix: str) -> Iterator[None]:
        """Nodes made inside are named after this op or part."""
        outer, self._prefix = self._prefix, prefix
        yield
        self._prefix = outer

    def node(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """Append a node with one output."""
        return self.nodes_out(kind, inputs, 1, **attributes)[0]

    def nodes_out(
        self, kind: str, inputs: Sequence[str], outputs: int, **attributes: Any
    ) -> list[str]:
        """Append a node with several outputs."""
        name = self._unique(f"{self._prefix}.{kind}" if self._prefix else kind)
        results = [name, *(f"{name}.{index}" for index in range(1, outputs))]
        self.nodes.append(helper.make_node(kind, inputs, results, name, **attributes))
        return results

    def _unique(self, name: str) -> str:
        self._names[name] += 1
        count = self._names[name]
        return name if count == 1 else f"{name}.{count}"

    def once(self, key: object, made: str | None = None) -> str | None:
        """What was made under a key before; with `made`, remember it."""
        if made is not None:
            self._made[key] = made
        return self._made.get(key)

    def input(self, name: str, dtype: int, shape: Sequence[int | str]) -> str:
        """A graph input, declared once."""
        if self.once(("input", name)) is None:
            self.inputs.append(helper.make_tensor_value_info(name, dtype, list(shape)))
            self.once(("input", name), name)
        return name

    def array(self, value: NDArray[np.generic]) -> str:
        """A small constant, shared by value."""
        key = ("array", value.dtype.str, value.shape, value.tobytes())
        name = self.once(key)
        if name is None:
            name = self._unique("value")
            self.initializers.append(put_array(self._sink, name, value))
            self.once(key, name)
        return name

    def f32(self, value: float) -> str:
        return self.array(np.array(value, np.float32))

    def scalar(self, value: int) -> str:
        return self.array(np.array(value, np.int64))

    def i64(self, *values: int) -> str:
        return self.array(np.array(values, np.int64))

    def name_output(self, value: str, name: str) -> None:
        """Give a value the name of a graph output."""
        self.nodes.append(helper.make_node("Identity", [value], [name], name))

    def dim(self, size: int | Dim) -> int | str:
        """A dimension as ONNX shows it; R is fixed."""
        if size is Dim.R:
            return self.logit_rows
        return size if isinstance(size, int) else size.value

    def plain(self, op: Op) -> str:
        """The float tensor of an op; a constant becomes an initializer."""
        value = self.values[op]
        match value:
            case str():
                return value
            case Constant():
                return self.floats(value)
        raise TypeError(f"{type(op).__name__} has no plain value")

    def coded(self, op: Op) -> Coded | str:
        """Quantised rows, or the float tensor."""
        value = self.values[op]
        return value if isinstance(value, Coded) else self.plain(op)

    def cached(self, op: Op) -> Cached:
        """The cache that an op stands for."""
        value = self.values[op]
        if not isinstance(value, Cached):
            raise TypeError(f"{type(op).__name__} is no cache")
        return value

    def constant(self, op: Op) -> Constant:
        """A weight that must be a constant."""
        if not isinstance(op, Constant):
            raise TypeError(f"{type(op).__name__} is no constant")
        return op

    def floats(self, constant: Constant) -> str:
        """A float (or grouped) constant as f32, whatever its initializer holds."""
        name = self.weight(constant)
        if tensor(constant).dtype is DType.F32 or self.is_spread(constant):
            return name
        made = self.once(("floats", constant))
        if made is None:
            made = self._widened(constant, name)
            self.once(("floats", constant), made)
        return made

    def _widened(self, constant: Constant, name: str) -> str:
        match constant.value:
            case GroupedSource(group=group):
                parts = (name, f"{name}.scales", f"{name}.zeros")
                return self.node("DequantizeLinear", *parts, axis=1, block_size=group)
        return self.node("Cast", name, to=onnx.TensorProto.FLOAT)

    def is_spread(self, constant: Constant) -> bool:
        """A grouped weight that is stored as floats: a table that is looked up, or one with a broken group."""
        value = constant.value
        if not isinstance(value, GroupedSource):
            return False
        return constant in self._tables or not fits_blocks(value)

    def call_rows(self) -> str:
        """T as i64[]: the rows of the entry's first port."""
        made = self.once("rows")
        if made is None:
            shape = self.node("Shape", self._ports[0], start=0, end=1)
            made = self.node("Squeeze", shape)
            self.once("rows", made)
        return made

    def weight(self, constant: Constant) -> str:
        """The initializer of a constant: floats as stored, int4 codes, or int8 effective values."""
        name = constant.name
        if self.once(constant) is None:
            self.initializers += self._put(constant)
            self.once(constant, name)
        return name

    def is_int4(self, constant: Constant) -> bool:
        """A table that is looked up stays int8: Gather takes no int4."""
        value = constant.value
        coded = isinstance(value, QuantisedSource) and fits_int4(value)
        return coded and constant not in self._tables

    def _put(self, constant: Constant) -> list[onnx.TensorProto]:
        value = constant.value
        match value:
            case QuantisedSource():
                put = put_int4 if self.is_int4(constant) else put_int8
                return put(self._sink, constant.name, value)
            case GroupedSource() if self.is_spread(constant):
                return put_float(self._sink, constant.name, Dequantised(value))
            case GroupedSource():
                return put_grouped(self._sink, constant.name, value)
            case _:
                return put_float(self._sink, constant.name, value)

    def attended(self, cache: Cached, present: str) -> None:
        """An Attention node made the present of this cache."""
        self._presents[cache] = present

    def present(self, cache: Cached) -> str:
        """Past and written rows f32[1, Hkv, P + T, D]: the Attention's output, else a Concat."""
        if cache not in self._presents:
            with self.within("present"):
                heads = self.node("Transpose", self.split_heads(cache), perm=[0, 2, 1, 3])
                self._presents[cache] = self.node("Concat", cache.past, heads, axis=2)
        return self._presents[cache]

    def split_heads(self, cache: Cached) -> str:
        """f32[1, T, Hkv, D] of the written rows, by the shape of the past."""
        sizes = self.node("Gather", self.node("Shape", cache.past), self.i64(1, 3), axis=0)
        shape = self.node("Concat", self.i64(1, -1), sizes, axis=0)
        return self.node("Reshape", cache.rows, shape)
