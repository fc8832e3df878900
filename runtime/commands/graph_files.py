"""Values of a graph's inputs from files (.npy, and the standard's .pb), and outputs as numpy alone can keep them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hearth.schemas.errors import InputError, MissingError, ResourceError, UsageError


def read_value(path: Path) -> Any:
    """What a file holds: an array, or of a .pb also a list or nothing."""
    readers = {".npy": _npy, ".pb": _pb}
    if path.suffix not in readers:
        raise UsageError(
            "arguments.input", f"a file {path.suffix!r}", expected=".npy or .pb", where=str(path)
        )
    try:
        return readers[path.suffix](path)
    except OSError as error:
        raise ResourceError(
            "resource.unreadable",
            f"cannot be read: {error.strerror or error}",
            where=str(path),
            remedy="look at its name and its permissions",
        ) from None


def _npy(path: Path) -> NDArray[Any]:
    """Files are data: one that holds Python objects is refused."""
    try:
        with path.open("rb") as file:
            array: NDArray[Any] = np.lib.format.read_array(file, allow_pickle=False)
            return array
    except (ValueError, EOFError, MemoryError) as error:
        raise _bad(path, str(error)) from None


def _pb(path: Path) -> Any:
    """A TensorProto, else a SequenceProto, as the standard's tests store them."""
    try:
        import onnx
    except ImportError:
        raise MissingError(
            "missing.onnx", ".pb files need the package onnx", remedy="pip install onnx"
        ) from None
    data = path.read_bytes()
    try:
        tensor = onnx.TensorProto.FromString(data)
        if tensor.data_type and not tensor.external_data:
            return onnx.numpy_helper.to_array(tensor)
        return onnx.numpy_helper.to_list(onnx.SequenceProto.FromString(data))
    except Exception as error:  # protobuf and onnx raise many kinds
        raise _bad(path, str(error)) from None


def _bad(path: Path, reason: str) -> InputError:
    return InputError(
        "input.file",
        f"is no array ({reason[:200]})",
        expected="an array as numpy or ONNX stores it",
        where=str(path),
    )


def plain(array: NDArray[Any]) -> NDArray[Any]:
    """What numpy alone can store and show: texts as such, small floats as float32, small integers as int8."""
    if array.dtype.kind == "O":
        return array.astype(str)
    match array.dtype.name:
        case "int4" | "int2":
            return array.astype(np.int8)
        case "uint4" | "uint2":
            return array.astype(np.uint8)
        case name if array.dtype.kind not in "biufcUS" or name.startswith("float8"):
            return array.astype(np.float32)
    return array
