"""What each graph input is for, told by its dtype, its shape and the nodes that read it; and what probes feed it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper

from hearth.compiler.frontend.onnx.model import Node, OnnxModel, ValueInfo
from hearth.compiler.frontend.onnx.values import (
    Atom,
    Axis,
    Mismatch,
    Past,
    Point,
    Rows,
    View,
    fused,
)
from hearth.compiler.ir.ops import Tokens

Array = NDArray[Any]

INTEGERS = (TensorProto.INT64, TensorProto.INT32)
FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16)


class Role(Enum):
    """Of a graph input."""

    IDS = "token ids"
    TYPES = "token types"
    POSITIONS = "positions"
    MASK = "attention mask"
    FLAG = "a switch for the cache"
    PAST = "past keys or values"


# (domain, op) -> {input that indexes a table: input of the table}
INDEXED: dict[tuple[str, str], dict[int, int]] = {
    ("", "Gather"): {1: 0},
    ("com.microsoft", "EmbedLayerNormalization"): {0: 2, 1: 4, 8: 3},
    ("com.microsoft", "GatherBlockQuantized"): {1: 2},  # its scales
}
# (domain, op) -> inputs that are positions to turn by
TURNED: dict[tuple[str, str], tuple[int, ...]] = {
    ("", "RotaryEmbedding"): (3,),
    ("", "Cos"): (0,),
    ("", "Sin"): (0,),
    ("com.microsoft", "RotaryEmbedding"): (1,),
    ("com.microsoft", "GroupQueryAttention"): (9,),
}
COUNTING = frozenset({"CumSum", "ReduceSum"})  # what makes positions or lengths of a mask
FEW_TYPES = 8  # a table with no more rows is one of token types


@dataclass(frozen=True)
class Ports:
    """The roles of all inputs; whether there is a past."""

    roles: Mapping[str, Role]
    infos: Mapping[str, ValueInfo]

    @property
    def has_past(self) -> bool:
        return Role.PAST in self.roles.values()

    def named(self, role: Role) -> tuple[str, ...]:
        return tuple(name for name, found in self.roles.items() if found is role)

    def views(self) -> dict[str, View]:
        """The inputs that are data."""
        found: dict[str, View] = {}
        for name, role in self.roles.items():
            info = self.infos[name]
            match role:
                case Role.IDS | Role.TYPES:
                    port = "tokens" if role is Role.IDS else "types"
                    lead: tuple[Axis, ...] = ((),) * (len(info.shape or ()) - 1)
                    row: Axis = (Atom(Rows.T),)
                    found[name] = View(Tokens(port=port), (*lead, row), dtype=info.dtype)
                case Role.PAST:
                    found[name] = past_view(info)
        return found

    def feeds(self, point: Point) -> dict[str, Array]:
        """The inputs that are no data."""
        fed: dict[str, Array] = {}
        for name, role in self.roles.items():
            info = self.infos[name]
            dtype = _numpy(info.dtype)
            rank = len(info.shape or ())
            match role:
                case Role.POSITIONS if rank == 0:  # of the first token
                    fed[name] = np.array(point.past, dtype)
                case Role.POSITIONS:
                    row = np.arange(point.past, point.past + point.tokens, dtype=dtype)
                    fed[name] = row.reshape((1,) * (rank - 1) + (-1,))
                case Role.MASK:
                    length = point.past + point.tokens if self.has_past else point.tokens
                    fed[name] = np.ones((1,) * (rank - 1) + (length,), dtype)
                case Role.FLAG:
                    fed[name] = np.ones((1,) * rank, dtype)
        return fed


def _numpy(dtype: int) -> np.dtype[Any]:
    return np.dtype(np.float32) if dtype in FLOATS else helper.tensor_dtype_to_np_dtype(dtype)


def past_view(info: ValueInfo) -> View:
    """[B, heads, P, D] and its kin: one unknown size after the batch is P, the known ones are columns."""
    shape = info.shape or ()
    unknown = [i for i, size in enumerate(shape) if not isinstance(size, int)]
    known = [size for size in shape if isinstance(size, int)]
    if len(unknown) == 2 or (
        len(unknown) == 3 and len(shape) >= 4
    ):  # the head's size may be unknown too
        row = unknown[1]
    elif len(unknown) == 1 and 1 in known:
        row = unknown[0]
    else:
        raise Mismatch(f"input {info.name!r} {list(shape)} has no one axis of past positions")
    if not all(0 < size <= 1 << 20 for size in known):
        raise Mismatch(f"input {info.name!r} {list(shape)} has absurd sizes")
    axes: list[Axis] = []
    stride = 1
    for i in reversed(range(len(shape))):
        size = shape[i]
        if i == row:
            axes.insert(0, (Atom(Rows.P),))
        elif isinstance(size, int):
            axes.insert(0, fused((Atom(size, stride),)))
            stride *= size
        else:
            axes.insert(0, ())
    return View(Past(info.name), tuple(axes))


@dataclass(frozen=True)
class _Uses:
    """How an integer input is used, followed through the nodes that compute with it."""

    tables: tuple[int, ...]  # rows of each table it indexes
    indexing: bool  # something that is no stored table
    turned: bool


def _uses(model: OnnxModel, start: str) -> _Uses:
    tables: list[int] = []
    indexing = turned = False
    stack, seen = [(start, False)], {start}
    while stack:
        name, after_count = stack.pop()
        for node in model.consumers.get(name, ()):
            counts = after_count or (not node.domain and node.op_type in COUNTING)
            rows = _table_rows(model, node, name)
            if rows is not None and not counts:
                tables.append(rows)
                continue
            key = (node.domain, node.op_type)
            if not counts and any(node.inputs[i : i + 1] == (name,) for i in INDEXED.get(key, ())):
                indexing = True
                continue
            turns = any(node.inputs[i : i + 1] == (name,) for i in TURNED.get(key, ()))
            if turns:
                turned = turned or not counts
                continue
            if _computes(node):
                new = [output for output in node.outputs if output and output not in seen]
                seen.update(new)
                stack += [(output, counts) for output in new]
    return _Uses(tuple(tables), indexing, turned)


def _computes(node: Node) -> bool:
    """Whether its result is still about the input: no activation has entered."""
    return not node.domain and node.op_type not in ("Shape", "Size", "Softmax", "Attention")


def _table_rows(model: OnnxModel, node: Node, index: str) -> int | None:
    """Rows of the float table that the node indexes by `index`."""
    for slot, table in INDEXED.get((node.domain, node.op_type), {}).items():
        if node.inputs[slot : slot + 1] == (index,) and table < len(node.inputs):
            shape = _stored_shape(model, node.inputs[table])
            if shape is not None and len(shape) == 2:
                return shape[0]
    return None


def _stored_shape(model: OnnxModel, name: str) -> tuple[int, ...] | None:
    """The shape of an initializer, or of one that only changes its type or is turned round."""
    turned = False
    for _ in range(8):
        if name in model.initializers:
            shape = model.initializers[name].shape
            return shape[::-1] if turned else shape
        node = model.producers.get(name)
        if node is None or not node.inputs:
            return None
        if node.op_type == "Transpose" and node.attributes.get("perm", (1, 0)) == (1, 0):
            turned = not turned
        elif node.op_type not in ("Identity", "Cast", "DequantizeLinear"):
            return None
        name = node.inputs[0]
    return None


def find_ports(model: OnnxModel) -> Ports:
    """The role of every input; Mismatch where one has none."""
    roles: dict[str, Role] = {}
    indexing: dict[str, int] = {}
    inputs = [info for info in model.inputs if info.name not in model.initializers]
    for info in inputs:
        rank = len(info.shape or ())
        if info.dtype in FLOATS and rank >= 3 and _symbolic(info):
            roles[info.name] = Role.PAST
        elif info.dtype in INTEGERS and rank in (1, 2):
            uses = _uses(model, info.name)
            if uses.tables:
                indexing[info.name] = max(uses.tables)
            elif uses.indexing and not uses.turned:
                raise Mismatch(f"input {info.name!r} indexes what is no stored table")
            else:
                roles[info.name] = Role.POSITIONS if uses.turned else _length_role(info)
        elif info.dtype in INTEGERS and info.shape == ():
            roles[info.name] = Role.POSITIONS
        elif info.dtype == TensorProto.BOOL and rank <= 1:
            roles[info.name] = Role.FLAG
        elif info.dtype in (*FLOATS, TensorProto.BOOL) and rank == 2:
            roles[info.name] = Role.MASK
        else:
            raise Mismatch(f"input {info.name!r} {list(info.shape or ())} is of no known kind")
    roles |= _indexing_roles(indexing, _vocabularies(model))
    return Ports(
        {info.name: roles[info.name] for info in inputs}, {info.name: info for info in inputs}
    )


def _length_role(info: ValueInfo) -> Role:
    """A rank-1 input with no table is a list of positions; a matrix is a mask."""
    return Role.POSITIONS if len(info.shape or ()) == 1 else Role.MASK


def _symbolic(info: ValueInfo) -> bool:
    return any(not isinstance(size, int) for size in info.shape or ())


def _vocabularies(model: OnnxModel) -> list[int]:
    """What may be V of a decoder, the surest first: columns of an output's linear, then declared ones.

    An output's declared shape may be missing, and hidden states may be an output too: a size of
    theirs that happens to be that of another table must not make its positions the token ids.
    """
    linears = [_linear_columns(model, info.name) for info in model.outputs]
    shapes = [info.shape for info in model.outputs if info.shape and len(info.shape) <= 3]
    found = (*linears, *(shape[-1] for shape in shapes))
    return [size for size in found if isinstance(size, int)]


def _linear_columns(model: OnnxModel, name: str) -> int | None:
    """Columns of the stored matrix that gives a value, looking through biases and moves."""
    for _ in range(8):
        node = model.producers.get(name)
        if node is None or not node.inputs:
            return None
        match node.domain, node.op_type:
            case "", "MatMul" | "Gemm":
                shape = _stored_shape(model, node.inputs[1])
                turned = node.op_type == "Gemm" and node.attributes.get("transB", 0) == 1
                return shape[0 if turned else 1] if shape and len(shape) == 2 else None
            case "com.microsoft", "MatMulNBits":
                columns = node.attributes.get("N")
                return columns if isinstance(columns, int) else None
            case "", "Add":
                data = [each for each in node.inputs if _stored_shape(model, each) is None]
                if len(data) != 1:
                    return None
                name = data[0]
            case "", "Identity" | "Cast" | "Reshape" | "Squeeze" | "Unsqueeze" | "Slice" | "Gather":
                name = node.inputs[0]
            case _:
                return None
    return None


def _indexing_roles(indexing: Mapping[str, int], vocabularies: Sequence[int]) -> dict[str, Role]:
    """Of the inputs that index tables, the ids have the table of V rows, else the largest."""
    if not indexing:
        raise Mismatch("no input indexes a table of embeddings")
    fitting = [name for size in vocabularies for name, rows in indexing.items() if rows == size]
    ids = fitting[0] if fitting else max(indexing, key=lambda name: indexing[name])
    roles = {ids: Role.IDS}
    for name, rows in indexing.items():
        if name != ids:
            roles[name] = Role.TYPES if rows <= FEW_TYPES else Role.POSITIONS
    return roles
