"""What a data tensor is in terms of the IR: a strided view of a matrix, or scores on their way to attention."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from math import prod

import numpy as np
import onnx
from numpy.typing import NDArray

from hearth.compiler.ir.ops import Op


class Mismatch(Exception):
    """Why a rule does not apply; its text is for the person who compiles."""


class Blocked(Mismatch):
    """A rule was not even tried in earnest: a value that it reads was not raised."""


class Unsuited(Mismatch):
    """A rule is about other operands; not worth telling where another rule comes nearer."""


class Ends(Mismatch):
    """A stored table of positions ends before the context does."""

    def __init__(self, longest: int, what: str) -> None:
        self.longest = longest
        super().__init__(f"{what} end at {longest}, before the context")


class Rows(StrEnum):
    """Sizes known only when an entry runs: T tokens of this call, P before it, S = P + T."""

    T = "T"
    P = "P"
    S = "P+T"


Size = int | Rows


@dataclass(frozen=True)
class Atom:
    """A part of an axis: `size` steps of `stride` columns; a stride of 0 repeats; Rows step over the matrix's rows."""

    size: Size
    stride: int = 0


Axis = tuple[Atom, ...]  # major to minor; () has size 1


def axis_size(axis: Axis) -> Size:
    """The number of elements along an axis."""
    for atom in axis:
        if isinstance(atom.size, Rows):
            return atom.size
    return prod(atom.size for atom in axis if isinstance(atom.size, int))


@dataclass(frozen=True, eq=False)
class Past:
    """A graph input [.., P, ..]: what earlier calls stored, as a matrix [P, columns]."""

    name: str


@dataclass(frozen=True, eq=False)
class Stored:
    """Keys or values [S, heads * head_dim]: the past (None: there is none, S = T) and this call's `rows`.

    The source keeps them times `scale`, which is in its past already.
    """

    rows: Op
    heads: int
    head_dim: int
    past: Past | None = None
    scale: float = 1.0


@dataclass(frozen=True, eq=False)
class View:
    """A tensor: element (i, j, ...) is column offset + sum(index * stride) of a row of `base`, times `scale`.

    Token ids have a `base` of Tokens, one row axis and no columns. `dtype` is an onnx.TensorProto.DataType, in which
    half precision counts as FLOAT.
    """

    base: Op | Past | Stored
    axes: tuple[Axis, ...]
    offset: int = 0
    scale: float = 1.0
    dtype: int = onnx.TensorProto.FLOAT

    @property
    def dims(self) -> tuple[Size, ...]:
        return tuple(axis_size(axis) for axis in self.axes)

    def with_axes(self, axes: tuple[Axis, ...], offset: int = 0) -> View:
        """The same matrix looked at otherwise; `offset` is added."""
        return replace(self, axes=tuple(map(fused, axes)), offset=self.offset + offset)


def fused(axis: Axis) -> Axis:
    """The shortest form: size-1 atoms dropped, neighbours that step evenly made one."""
    result: list[Atom] = []
    for atom in axis:
        if atom.size == 1:
            continue
        last = result[-1] if result else None
        if (
            last is not None
            and isinstance(last.size, int)
            and isinstance(atom.size, int)
            and last.stride == atom.size * atom.stride
        ):
            result[-1] = Atom(last.size * atom.size, atom.stride)
        else:
            result.append(atom)
    return tuple(result)


@dataclass(frozen=True, eq=False)
class Mask:
    """What hides scores: an additive or boolean position-only value; `visible` says which truth shows a score."""

    name: str
    visible: bool | None = None  # None: additive


@dataclass(frozen=True, eq=False)
class Scores:
    """scale * q @ k^T [.., T, S], hidden by masks; after softmax: the weights of the values."""

    q: View
    k: View  # [.., S, D]
    scale: float
    masks: tuple[Mask, ...] = ()
    softmax: bool = False
    dtype: int = onnx.TensorProto.FLOAT

    @property
    def dims(self) -> tuple[Size, ...]:
        return (*self.q.dims[:-1], self.k.dims[-2])


Value = View | Scores


@dataclass(frozen=True)
class Point:
    """One way to run the graph: T tokens after P earlier ones."""

    tokens: int
    past: int

    def size(self, size: Size) -> int:
        match size:
            case Rows.T:
                return self.tokens
            case Rows.P:
                return self.past
            case Rows.S:
                return self.tokens + self.past
        return size

    def shape(self, value: Value) -> tuple[int, ...]:
        return tuple(self.size(size) for size in value.dims)

    def zeros(self, value: Value) -> NDArray[np.generic]:
        """An array of the value's shape and dtype."""
        dtype = onnx.helper.tensor_dtype_to_np_dtype(value.dtype)
        return np.zeros(self.shape(value), dtype)


@dataclass(frozen=True)
class Reason:
    """Why a node stays as it is: a rule, and what it did not find.

    `blocked`: because of a node before it. `unsuited`: the rule is about other operands.
    """

    node: str
    rule: str
    text: str
    blocked: bool = False
    unsuited: bool = False

    def __str__(self) -> str:
        return f"{self.node}: {self.rule}: {self.text}"
