"""Ops that make each value of one or two values in its place."""

from __future__ import annotations

from dataclasses import dataclass

from hearth.compiler.ir.ops.base import Op, matrix, need, tensor
from hearth.compiler.ir.types import TensorType, Type
from hearth.schemas.commands import Activation
from hearth.schemas.dtypes import DType


@dataclass(frozen=True, eq=False)
class Elementwise(Op):
    """Two matrices of one shape; base of Add, Mul and Gated."""

    def infer(self) -> Type:
        left, right = (matrix(self, operand) for operand in self.operands)
        need(left == right, self, "shapes must be equal")
        return TensorType(DType.F32, left)


@dataclass(frozen=True, eq=False)
class Add(Elementwise):
    """y = a + b; b may be a bias vector [N]."""

    a: Op
    b: Op

    def infer(self) -> Type:
        if len(tensor(self.b).shape) == 1:
            rows, columns = matrix(self, self.a)
            need(tensor(self.b).shape == (columns,), self, "bias must have the columns of a")
            return TensorType(DType.F32, (rows, columns))
        return super().infer()


@dataclass(frozen=True, eq=False)
class Mul(Elementwise):
    """y = a * b."""

    a: Op
    b: Op


@dataclass(frozen=True, eq=False)
class Gated(Elementwise):
    """y = f(gate) * up, f the gate of a gated activation; Shazeer 2020, arXiv:2002.05202."""

    gate: Op
    up: Op
    activation: Activation

    def infer(self) -> Type:
        need(self.activation.gate is not None, self, f"{self.activation.name} is not gated")
        return super().infer()


@dataclass(frozen=True, eq=False)
class Activate(Op):
    """y = f(x) elementwise, f a function of one value."""

    x: Op
    activation: Activation

    def infer(self) -> Type:
        known = self.activation.is_function
        need(known, self, f"{self.activation.name} is no function of one matrix")
        return TensorType(DType.F32, matrix(self, self.x))


@dataclass(frozen=True, eq=False)
class Scale(Op):
    """y = x * factor."""

    x: Op
    factor: float

    def infer(self) -> Type:
        return TensorType(DType.F32, matrix(self, self.x))


@dataclass(frozen=True, eq=False)
class SoftCap(Op):
    """y = tanh(x / cap) * cap, within -cap .. cap; Bello et al. 2016, arXiv:1611.09940, as Gemma 2 has it."""

    x: Op
    cap: float

    def infer(self) -> Type:
        return TensorType(DType.F32, matrix(self, self.x))
