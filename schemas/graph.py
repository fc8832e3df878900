"""A general graph: its ports, the steps that run it, the tensors they read, and why parts stayed ONNX."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Engine(StrEnum):
    """What runs a step."""

    ONNX = "onnx"  # a section onnx/<n>, in onnxruntime
    NATIVE = "native"  # an entry of the program


@dataclass(frozen=True)
class GraphPort:
    """A named value of the graph: its type in onnxruntime's words ("tensor(float)", "seq(tensor(int64))").

    A dim that is a text is the same number wherever it occurs; "" is any. `shape` None: any rank, or no tensor.
    """

    name: str
    type: str
    shape: tuple[int | str, ...] | None


@dataclass(frozen=True)
class Step:
    """One part of the graph: `run` names its section (ONNX) or its entry (native).

    A native step takes matrices: the leading dims of its inputs, all equal, are its rows; `inputs` are the entry's
    ports x0, x1, ..., `outputs` y0, y1, ... `tensors` are those of `Plan.tensors` that an ONNX step reads.
    """

    engine: Engine
    run: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    tensors: tuple[int, ...] = ()


@dataclass(frozen=True)
class StoredTensor:
    """A large tensor at `offset` of the section `tensors`, of an ONNX element type."""

    name: str
    dtype: int
    shape: tuple[int, ...]
    offset: int
    nbytes: int


@dataclass(frozen=True)
class Operators:
    """How many nodes of one operator a step holds. `reason` says why they are not native ("" where they are)."""

    step: int
    op: str
    count: int
    reason: str


@dataclass(frozen=True)
class Plan:
    """The section `graph`. Steps are in the order they run; a value is made once.

    `reasons` say why the model is no decoder and no encoder of native operators as a whole.
    """

    inputs: tuple[GraphPort, ...]
    outputs: tuple[GraphPort, ...]
    steps: tuple[Step, ...]
    tensors: tuple[StoredTensor, ...]
    operators: tuple[Operators, ...]
    reasons: tuple[str, ...]
