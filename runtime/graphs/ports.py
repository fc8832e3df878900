"""What a graph takes: names, types and shapes checked before any engine sees them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hearth.runtime.graphs.onnx_engine import FOREIGN, foreign_dtype
from hearth.schemas.errors import InputError
from hearth.schemas.graph import GraphPort

# numpy's name of onnxruntime's element types, where they differ.
NUMPY: Mapping[str, str] = {"float": "float32", "double": "float64"}


def checked_inputs(ports: Sequence[GraphPort], given: Mapping[str, Any]) -> dict[str, Any]:
    """The values as arrays of each port's type; raises InputError where they do not fit."""
    names = {port.name for port in ports}
    for name in given:
        if name not in names:
            raise InputError(
                "input.port",
                f"there is no input {name!r}",
                expected=f"one of {', '.join(sorted(names))}" if names else "no inputs at all",
            )
    return {port.name: _checked(port, given) for port in ports}


def describe(port: GraphPort) -> str:
    """'tensor(float)[batch, 3, 224, 224]'"""
    if port.shape is None:
        return port.type
    return f"{port.type}[{', '.join(str(dim) or '?' for dim in port.shape)}]"


def _checked(port: GraphPort, given: Mapping[str, Any]) -> Any:
    if port.name not in given:
        raise InputError(
            "input.port",
            f"the input {port.name!r} is missing",
            expected=describe(port),
            remedy="give every input of the graph",
        )
    value = given[port.name]
    if not port.type.startswith("tensor("):
        return value
    array = _array(port, value)
    if port.shape is not None:
        _check_shape(port, array.shape)
    return array


def _array(port: GraphPort, value: Any) -> Any:
    """The value as an array of the port's type; Python's numbers and lists take that type."""
    kind = port.type.removeprefix("tensor(").removesuffix(")")
    if kind == "string":
        return _strings(port, value)
    dtype = _dtype(kind)
    if not isinstance(value, np.ndarray | np.generic):
        try:
            return np.array(value, dtype)
        except (TypeError, ValueError, OverflowError) as error:
            raise _wrong(port, f"is no array ({error})"[:200]) from None
    if value.dtype != dtype:
        raise _wrong(port, f"has the type {value.dtype}")
    return np.ascontiguousarray(value).reshape(np.shape(value))


def _dtype(kind: str) -> np.dtype[Any]:
    if kind in FOREIGN:
        return foreign_dtype(FOREIGN[kind][1])
    return np.dtype(NUMPY.get(kind, kind))


def _strings(port: GraphPort, value: Any) -> Any:
    array = np.array(value, np.object_)
    if not all(isinstance(each, str) for each in array.reshape(-1)):
        raise _wrong(port, "has elements that are no texts")
    return array


def _check_shape(port: GraphPort, shape: tuple[int, ...]) -> None:
    wanted = port.shape or ()
    fits = len(wanted) == len(shape) and all(
        isinstance(dim, str) or dim == size for dim, size in zip(wanted, shape, strict=True)
    )
    if not fits:
        raise _wrong(port, f"has the shape {list(shape)}")


def _wrong(port: GraphPort, found: str) -> InputError:
    return InputError("input.array", f"the input {port.name!r} {found}", expected=describe(port))
