"""What is known of the values of a graph: which are matrices of floats with known rows, which are stored."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from onnx import TensorProto

from hearth.compiler.frontend.onnx.model import OnnxModel
from hearth.compiler.frontend.onnx.weights import STORED, InitializerSource
from hearth.compiler.frontend.sources import Panel, Transposed
from hearth.compiler.ir.ops import Constant
from hearth.compiler.ir.tensors import ArraySource, Source
from hearth.compiler.segments.cut import Types

Rows = tuple[int | str, ...]


class NotNative(Exception):
    """Why a node stays ONNX."""


@dataclass(eq=False)
class Facts:
    """Constants are made once per tensor and orientation, so that what is shared stays shared."""

    model: OnnxModel
    types: Types
    panel: Panel = field(default_factory=Panel)
    _made: dict[tuple[str, bool], Constant] = field(default_factory=dict)

    @cached_property
    def used(self) -> frozenset[str]:
        """Values that something reads, or that the graph gives."""
        outputs = (each.name for each in self.model.outputs)
        return frozenset((*self.model.consumers, *outputs))

    @cached_property
    def shapes(self) -> dict[str, tuple[Rows, int]]:
        """The rows (leading dims) and columns of every float tensor whose columns are known.

        A leading dim that is not known is equal to no other: it has a name of its own.
        """
        found = {}
        for name, info in self.types.items():
            kind = info.type.tensor_type
            if kind.elem_type != TensorProto.FLOAT or not kind.shape.dim:
                continue
            *rows, columns = [
                each.dim_value if each.HasField("dim_value") else each.dim_param
                for each in kind.shape.dim
            ]
            if isinstance(columns, int) and columns > 0:
                own = (row if row != "" else f"{name}[{axis}]" for axis, row in enumerate(rows))
                found[name] = tuple(own), columns
        return found

    def keeps_rows(self, output: str, source: str) -> Rows:
        """A row by row operator gives rows as many as it takes, whatever else is known of them."""
        rows, (given, columns) = self.matrix(source)[0], self.matrix(output)
        if len(given) != len(rows):
            raise NotNative("gives a tensor of more dims than it takes")
        self.shapes[output] = rows, columns
        return rows

    def matrix(self, name: str) -> tuple[Rows, int]:
        """Rows and columns of a value that is computed."""
        if self.stored(name):
            raise NotNative("reads a stored tensor where a computed one is needed")
        if name not in self.shapes:
            raise NotNative("is no float32 tensor of known columns")
        return self.shapes[name]

    def columns(self, name: str) -> int:
        """The last dim."""
        return self.matrix(name)[1]

    def rank(self, name: str) -> int:
        """The number of dims."""
        return len(self.matrix(name)[0]) + 1

    def same(self, a: str, b: str) -> None:
        """Both are matrices of one shape."""
        if self.matrix(a) != self.matrix(b):
            raise NotNative("its operands have different shapes, or shapes not known to be equal")

    def stored(self, name: str) -> bool:
        """Whether the value is an initializer."""
        return name in self.model.initializers

    def weight(self, name: str, transposed: bool) -> Constant:
        """A stored matrix as the IR's [N, K]; `transposed`: it is stored as [K, N]."""
        if not self.stored(name):
            raise NotNative("multiplies with a computed matrix")
        held = self.model.initializers[name]
        if len(held.shape) != 2 or held.dtype not in STORED or 0 in held.shape:
            raise NotNative("multiplies with what is no stored matrix of floats")
        key = name, transposed
        if key not in self._made:
            source: Source = InitializerSource(held)
            if transposed:
                source = Transposed(source, self.panel)
            self._made[key] = Constant(f"{name}.T" if transposed else name, source)
        return self._made[key]

    def vector(self, name: str, columns: int) -> Constant:
        """A stored vector of so many floats; one of one element is repeated."""
        if not self.stored(name):
            raise NotNative("adds or scales by a computed vector")
        held = self.model.initializers[name]
        if held.dtype not in STORED or held.shape[-1:] not in ((columns,), (1,), ()):
            raise NotNative("adds or scales by what is no stored vector of floats")
        if any(size != 1 for size in held.shape[:-1]):
            raise NotNative("adds or scales by more than a vector")
        key = f"{name}[{columns}]", False
        if key not in self._made:
            flat = np.asarray(held.array(), np.float32).reshape(-1)
            self._made[key] = Constant(key[0], ArraySource(np.resize(flat, columns)))
        return self._made[key]
