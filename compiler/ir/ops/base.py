"""What every op shares: operands, a type computed and checked, copies over other operands."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Self

from hearth.compiler.ir.types import Dim, TensorType, Type
from hearth.schemas.dtypes import DType


class IRError(Exception):
    """An op was built from operands that do not fit: a bug in a frontend or pass, never a user error."""


@dataclass(frozen=True, eq=False)
class Op:
    """Base: operands are the fields that are ops, in field order."""

    def __post_init__(self) -> None:
        _ = self.type  # raises IRError on misuse

    @cached_property
    def operands(self) -> tuple[Op, ...]:
        """The ops this op reads; optional ones that are None are left out."""
        values = (getattr(self, field.name) for field in fields(self))
        return tuple(value for value in values if isinstance(value, Op))

    @cached_property
    def type(self) -> Type:
        return self.infer()

    def infer(self) -> Type:
        """The type of the result; raises IRError where the operands do not fit."""
        raise NotImplementedError

    def with_operands(self, operands: tuple[Op, ...]) -> Self:
        """The same op over other operands (same count, same order); itself when nothing differs."""
        if all(new is old for new, old in zip(operands, self.operands, strict=True)):
            return self
        left = iter(operands)
        changes = {
            field.name: next(left)
            for field in fields(self)
            if isinstance(getattr(self, field.name), Op)
        }
        return replace(self, **changes)


def tensor(op: Op) -> TensorType:
    """The type of an op that must be a tensor."""
    if not isinstance(op.type, TensorType):
        raise IRError(f"{type(op).__name__} gives {op.type}, expected a tensor")
    return op.type


def need(condition: bool, op: Op, what: str) -> None:
    """Raises IRError that names the op, its operands and `what` is wanted, unless the condition holds."""
    if not condition:
        shapes = ", ".join(str(operand.type) for operand in op.operands)
        raise IRError(f"{type(op).__name__}({shapes}): {what}")


def matrix(op: Op, operand: Op, dtypes: tuple[DType, ...] = (DType.F32,)) -> tuple[int | Dim, int]:
    """(rows, columns) of an operand that must be a matrix of one of the dtypes; its columns are known."""
    kind = tensor(operand)
    need(kind.dtype in dtypes and len(kind.shape) == 2, op, f"expected a matrix of {dtypes}")
    columns = kind.shape[1]
    if not isinstance(columns, int):
        raise IRError(f"{type(op).__name__}: columns of {kind} must be known")
    return kind.shape[0], columns
