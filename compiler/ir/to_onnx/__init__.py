"""Any stage before lowering as a standard ONNX model (opset 23): run it elsewhere, or open it in Netron.

Inputs: the ports (`tokens` i32[T], or [1]; f32[T, columns]), `position` i64[], and per cache `past.k.<layer>`,
`past.v.<layer>` f32[1, Hkv, P, D] with P = position. Outputs: the entry's results by name (a decoder's `logits`), and
`present.k.<layer>`, ... [1, Hkv, P + T, D].

Quantised weights stay integers: DequantizeLinear makes the effective int8 value (of int4 codes by blocks,
the group multipliers being the scales), and the scales of row and channel are applied after the product,
as docs/arithmetic.md defines. An engine that sums integers below 2^24 in float32 then gives our very bits.
Weights with a table of levels are written as their effective int8, those with float scales per group as blocked
DequantizeLinear with their zero points.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import onnx
from onnx import helper

from hearth.compiler.ir.graph import Graph
from hearth.compiler.ir.ops import Op, tensor
from hearth.compiler.ir.rewrite import order
from hearth.compiler.ir.text import number
from hearth.compiler.ir.to_onnx.builder import Builder
from hearth.compiler.ir.to_onnx.initializers import External, InMemory, Sink
from hearth.compiler.ir.to_onnx.rules import RULES
from hearth.compiler.ir.to_onnx.values import Cached, Coded, Value
from hearth.compiler.ir.types import CacheType

__all__ = ["Exported", "export", "save_onnx", "to_onnx"]

OPSET = 23
FLOAT = onnx.TensorProto.FLOAT
IR_VERSION = 11


@dataclass(frozen=True)
class Exported:
    """The model, and the names of the tensors that hold each watched op's value."""

    model: onnx.ModelProto
    watched: Mapping[Op, tuple[str, ...]]


def to_onnx(graph: Graph, entry: str, *, logit_rows: int = 1) -> onnx.ModelProto:
    """One entry with its weights inside; `logit_rows` is R. Weights must stay below 2 GB."""
    return export(graph, entry, InMemory(), logit_rows=logit_rows).model


def save_onnx(graph: Graph, entry: str, path: Path, *, logit_rows: int = 1) -> None:
    """One entry as `path` and its weights as `path`.data, written with the memory of one block of rows."""
    data = path.with_name(path.name + ".data")
    try:
        with data.open("wb") as file:
            model = export(graph, entry, External(file, data.name), logit_rows=logit_rows).model
        path.write_bytes(model.SerializeToString(deterministic=True))
    except BaseException:
        for left in (data, path):
            left.unlink(missing_ok=True)
        raise


def export(
    graph: Graph,
    entry: str,
    sink: Sink,
    *,
    logit_rows: int = 1,
    watch: Collection[Op] = (),
) -> Exported:
    """One entry, weights put into `sink`; the values of watched (float) ops become outputs too."""
    outputs, names = graph.entries[entry], graph.names(entry)
    builder = Builder(sink, outputs, logit_rows)
    numbers = number(outputs)
    for op in order(outputs):
        with builder.within(f"op{numbers[op]}" if op in numbers else ""):
            builder.values[op] = RULES[type(op)](op, builder)
    results = [_result(builder, op, name) for name, op in zip(names, outputs, strict=False)]
    results += [_present(builder, op) for op in outputs[len(names) :]]
    watched = {op: _names(builder, builder.values[op]) for op in watch}
    results += [helper.make_tensor_value_info(name, FLOAT, None) for name in _flat(watched)]
    body = helper.make_graph(
        builder.nodes, entry, builder.inputs, results, initializer=builder.initializers
    )
    model = helper.make_model(body, opset_imports=[helper.make_opsetid("", OPSET)])
    model.ir_version = IR_VERSION
    model.producer_name = "hearth"
    return Exported(model, watched)


def _result(builder: Builder, op: Op, name: str) -> onnx.ValueInfoProto:
    builder.name_output(builder.plain(op), name)
    shape: list[int | str | None] = [builder.dim(size) for size in tensor(op).shape]
    return helper.make_tensor_value_info(name, FLOAT, shape)


def _present(builder: Builder, op: Op) -> onnx.ValueInfoProto:
    kind = op.type
    if not isinstance(kind, CacheType):
        raise TypeError(f"{type(op).__name__} made {kind}, expected a cache")
    name = f"present.{kind.kind.name.lower()}.{kind.layer}"
    builder.name_output(builder.present(builder.cached(op)), name)
    shape: list[int | str | None] = [1, kind.heads, "P + T", kind.head_dim]
    return helper.make_tensor_value_info(name, FLOAT, shape)


def _names(builder: Builder, value: Value) -> tuple[str, ...]:
    match value:
        case str():
            return (value,)
        case Coded(codes=codes, scale=scale):
            return (codes, scale)
        case Cached(coded=coded):
            parts = () if coded is None else (coded.codes, coded.scale)
            return (builder.present(value), *parts)
        case _:
            return ()


def _flat(watched: Mapping[Op, tuple[str, ...]]) -> list[str]:
    return list(dict.fromkeys(name for names in watched.values() for name in names))
