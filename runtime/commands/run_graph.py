"""`hearth run` on a general graph: arrays from files in, arrays out."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hearth.runtime.commands.graph_files import plain, read_value
from hearth.runtime.commands.run_options import RunOptions
from hearth.runtime.commands.terminal import emit, emit_json
from hearth.schemas.errors import ResourceError, UsageError

if TYPE_CHECKING:
    from hearth.runtime.graphs.model import GraphModel

SHOWN = 8  # values of an output that are printed


def run_graph(model: GraphModel, options: RunOptions) -> None:
    """Every output in a line of its own; with --output-dir as files, with --json as one object."""
    found = model.run(read_inputs(options.graph.input or ()))
    folder = options.graph.output_dir
    files = {} if folder is None else write_outputs(found, folder)
    if options.as_json:
        emit_json({"outputs": as_objects(found, files), "load_s": options.load_s})
        return
    for name, part, array in arrays(found):
        place = files.get((name, part))
        emit(f"{name}{part} {describe(array)}{'' if place is None else f' -> {place}'}\n")


def read_inputs(given: Iterable[str]) -> dict[str, Any]:
    """'name=file.npy' -> values by name."""
    found: dict[str, Any] = {}
    for each in given:
        name, equals, path = each.partition("=")
        if not equals or not name or name in found:
            raise UsageError(
                "arguments.input",
                f"--input {each!r:.100}",
                expected="NAME=FILE.npy or NAME=FILE.pb, each name once",
            )
        found[name] = read_value(Path(path))
    return found


Named = tuple[str, str, NDArray[Any]]


def arrays(outputs: Mapping[str, Any]) -> Iterator[Named]:
    """(name, "[i]" of the items of a list, array) of every array; an optional output that is empty has none."""
    for name, value in outputs.items():
        if isinstance(value, list):
            for place, each in enumerate(value):
                yield name, f"[{place}]", plain(np.asarray(each))
        elif value is not None:
            yield name, "", plain(np.asarray(value))


def describe(array: NDArray[Any]) -> str:
    """'float32[2, 3] 0.5 1 2.25 ...'"""
    values = " ".join(str(value) for value in array.ravel()[:SHOWN])
    more = " ..." if array.size > SHOWN else ""
    return f"{array.dtype}{list(array.shape)} {values}{more}"


def write_outputs(outputs: Mapping[str, Any], folder: Path) -> dict[tuple[str, str], Path]:
    """A .npy file for each array, named like its output; characters unsafe in a file name become '_'."""
    files: dict[tuple[str, str], Path] = {}
    taken: set[str] = set()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, part, array in arrays(outputs):
            stem = unique(re.sub(r"[^A-Za-z0-9_.-]", "_", name + part).lstrip(".")[:100], taken)
            files[name, part] = folder / f"{stem}.npy"
            np.save(files[name, part], array, allow_pickle=False)
    except OSError as error:
        raise ResourceError(
            "resource.unwritable",
            f"cannot be written: {error.strerror}",
            where=str(folder),
            remedy="choose another --output-dir",
        ) from None
    return files


def unique(stem: str, taken: set[str]) -> str:
    """The name, numbered where an output before has it."""
    found, number = stem or "output", 2
    while found.lower() in taken:
        found, number = f"{stem}-{number}", number + 1
    taken.add(found.lower())
    return found


def as_objects(
    outputs: Mapping[str, Any], files: Mapping[tuple[str, str], Path]
) -> list[dict[str, Any]]:
    """What --json says of each array: its file, or its values."""
    found = []
    for name, part, array in arrays(outputs):
        place = files.get((name, part))
        content = {"values": _plain(array)} if place is None else {"file": str(place)}
        facts = {"name": name + part, "dtype": str(array.dtype), "shape": list(array.shape)}
        found.append(facts | content)
    return found


def _plain(array: NDArray[Any]) -> Any:
    """Nested lists; what JSON has no number for (infinity, complex) as text."""
    if array.ndim:
        return [_plain(each) for each in array]
    value = array.item()
    if isinstance(value, float) and np.isfinite(value):
        return float(str(array)) if array.dtype == np.float32 else value
    return value if isinstance(value, bool | int | str) else str(value)
