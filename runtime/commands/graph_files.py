"""Arrays of a graph's inputs and outputs as files: .npy, and the standard's .pb."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hearth.schemas.errors import InputError, MissingError, ResourceError, UsageError


def read_inputs(given: Sequence[str]) -> dict[str, Any]:
    """`NAME=FILE` pairs as values by name."""
    found: dict[str, Any] = {}
    for pair in given:
        name, equals, file = pair.rpartition("=")
        if not equals or not name or not file or name in found:
            raise UsageError(
                "arguments.input",
                f"--input {pair}",
                expected="NAME=FILE.npy or NAME=FILE.pb, each name once",
            )
        found[name] = read_value(Path(file))
    return found


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
    try:
        with path.open("rb") as file:
            return np.asarray(np.load(file, allow_pickle=False))
    except (ValueError, EOFError) as error:
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


def write_outputs(folder: Path, values: Mapping[str, Any]) -> dict[str, Path]:
    """Each output as NAME.npy in the folder, which is made; a list's items as NAME.0.npy, NAME.1.npy, ..."""
    written: dict[str, Path] = {}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, array in _arrays(values):
            path = _free(folder, name, written)
            with path.open("wb") as file:
                np.save(file, plain(array), allow_pickle=False)
            written[name] = path
    except OSError as error:
        raise ResourceError(
            "resource.unwritable",
            f"cannot be written: {error.strerror or error}",
            where=str(folder),
            remedy="choose another folder",
        ) from None
    return written


def _arrays(values: Mapping[str, Any]) -> Iterator[tuple[str, NDArray[Any]]]:
    for name, value in values.items():
        if isinstance(value, list):
            yield from _arrays({f"{name}.{at}": item for at, item in enumerate(value)})
        elif value is not None:
            yield name, np.asarray(value)


def _free(folder: Path, name: str, written: Mapping[str, Path]) -> Path:
    """A file name made of a value's name; one more where two names give the same."""
    stem = "".join(each if each.isalnum() or each in "._-" else "_" for each in name)[:100]
    taken = set(written.values())
    path, count = folder / f"{stem.lstrip('.') or 'value'}.npy", 1
    while path in taken:
        count += 1
        path = folder / f"{stem}-{count}.npy"
    return path


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
