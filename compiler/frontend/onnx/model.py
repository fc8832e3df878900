"""An ONNX model as the frontend reads it: checked, in order, its tensors lazy. Made by reader.read_model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import onnx
from numpy.typing import NDArray

Attribute = int | float | str | bytes | tuple[Any, ...] | NDArray[Any] | onnx.GraphProto


class Initializer(Protocol):
    """A tensor stored with the model: inside it, or in a file beside it.

    `array()` reads all of it (numpy dtype of the ONNX type: ml_dtypes for bfloat16 and float8; packed 4-bit types
    unpacked to int8/uint8). `rows(start, stop)` reads a range of the first axis without reading the rest.
    """

    @property
    def name(self) -> str: ...

    @property
    def dtype(self) -> int: ...  # onnx.TensorProto.DataType

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def nbytes(self) -> int: ...

    def array(self) -> NDArray[Any]: ...

    def rows(self, start: int, stop: int) -> NDArray[Any]: ...


@dataclass(frozen=True, eq=False)
class Node:
    """One operation. `domain` is "" for the standard; absent optional inputs and outputs are "".

    `captures` are values of the graph that the node's subgraphs read.
    """

    name: str
    domain: str
    op_type: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Attribute]
    captures: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """What messages call it."""
        kind = f"{self.domain}.{self.op_type}" if self.domain else self.op_type
        return f"{kind} {self.name!r}" if self.name else f"{kind} -> {self.outputs[0]!r}"


@dataclass(frozen=True)
class ValueInfo:
    """A graph input or output. `dtype` is an ONNX data type, 0 for what is no tensor; None: unknown rank or dim."""

    name: str
    dtype: int
    shape: tuple[int | str | None, ...] | None


@dataclass(frozen=True, eq=False)
class OnnxModel:
    """Nodes in topological order; functions inlined; `opsets` by domain ("" is the standard).

    `proto` is the same model with large tensors left out (they are in `initializers`); hand both to `sessions.py`
    to run it, or a part of it, in onnxruntime.
    """

    path: Path
    proto: onnx.ModelProto
    inputs: tuple[ValueInfo, ...]
    outputs: tuple[ValueInfo, ...]
    nodes: tuple[Node, ...]
    initializers: Mapping[str, Initializer]
    opsets: Mapping[str, int]
    files: tuple[Path, ...]

    @cached_property
    def producers(self) -> Mapping[str, Node]:
        """The node that makes each value."""
        return {name: node for node in self.nodes for name in node.outputs if name}

    @cached_property
    def consumers(self) -> Mapping[str, tuple[Node, ...]]:
        """The nodes that read each value, in order."""
        found: dict[str, list[Node]] = {}
        for node in self.nodes:
            for name in dict.fromkeys((*node.inputs, *node.captures)):
                if name:
                    found.setdefault(name, []).append(node)
        return {name: tuple(nodes) for name, nodes in found.items()}
