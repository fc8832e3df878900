"""What `hearth run` does with a general graph: files in, files or a summary out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hearth.runtime.commands.graph_files import plain, read_inputs, write_outputs
from hearth.runtime.commands.terminal import emit, emit_json, table
from hearth.runtime.graph_model import GraphModel
from hearth.runtime.graph_ports import describe
from hearth.schemas.errors import UsageError

SHOWN = 8  # values of each output


def run_graph(
    model: GraphModel, given: Sequence[str], output_dir: Path | None, as_json: bool
) -> None:
    """Run once; write the outputs where a folder is given, and say what they are."""
    if not given and model.inputs:
        ports = ", ".join(f"{port.name}: {describe(port)}" for port in model.inputs)
        raise UsageError(
            "arguments.input", "no --input", expected=f"--input NAME=FILE for each of {ports}"
        )
    values = model.run(read_inputs(given))
    files = {} if output_dir is None else write_outputs(output_dir, values)
    if as_json:
        emit_json({name: facts(value) for name, value in values.items()})
    else:
        emit(summary(values, files))


def facts(value: Any) -> Any:
    """Type, shape and first values of an output, as plain data."""
    if isinstance(value, list):
        return [facts(item) for item in value]
    if value is None:
        return None
    array = np.asarray(value)
    first = plain(array).reshape(-1)[:SHOWN].tolist()
    return {"type": str(array.dtype), "shape": list(array.shape), "first": first}


def summary(values: Mapping[str, Any], files: Mapping[str, Path]) -> str:
    """A line for each output."""
    lines = []
    for name, value in values.items():
        found = facts(value)
        if isinstance(found, dict):
            first = ", ".join(
                f"{each:.6g}" if isinstance(each, float) else str(each) for each in found["first"]
            )
            more = ", ..." if np.prod(found["shape"], dtype=np.int64) > SHOWN else ""
            lines.append((name, f"{found['type']}{found['shape']}: {first}{more}"))
        else:
            lines.append((name, "nothing" if found is None else f"{len(found)} values"))
    written = "".join(f"{path}\n" for path in files.values())
    return table(lines) + "\n" + written
