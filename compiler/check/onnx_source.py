"""An ONNX decoder or encoder run as it is, from an empty past, fed by what each of its inputs is for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import helper

from hearth.compiler.frontend.onnx.find import find_graph
from hearth.compiler.frontend.onnx.model import ValueInfo
from hearth.compiler.frontend.onnx.ports import Ports, Role, find_ports, past_view
from hearth.compiler.frontend.onnx.reader import read_model
from hearth.compiler.frontend.onnx.sessions import open_source
from hearth.compiler.frontend.onnx.values import Atom, Point, Rows
from hearth.runtime.graphs.onnx_engine import OnnxEngine
from hearth.schemas.manifest import Dims

F32 = NDArray[np.float32]
Ids = Mapping[str, NDArray[np.int32]]  # by the archive's ports
PORTS = {Role.IDS: "tokens", Role.TYPES: "types"}


@dataclass(frozen=True, eq=False)
class OnnxSource:
    """The model as it was exported; `ports` say what its inputs are for."""

    engine: OnnxEngine
    ports: Ports
    dims: Dims

    def result(self, ids: Ids, count: int) -> F32 | None:
        """The first output of `count` numbers, flat; None where there is none."""
        for value in self.engine.run(self.feeds(ids)).values():
            if isinstance(value, np.ndarray) and value.size == count:
                return np.asarray(value, np.float32).reshape(-1)
        return None

    def feeds(self, ids: Ids) -> dict[str, NDArray[Any]]:
        """Every input."""
        found = dict(self.ports.feeds(Point(len(ids["tokens"]), 0)))
        for name, role in self.ports.roles.items():
            info = self.ports.infos[name]
            if role in PORTS:
                row = ids[PORTS[role]]
                found[name] = row.reshape((1,) * (len(info.shape or ()) - 1) + (-1,))
            elif role is Role.PAST:
                found[name] = np.zeros(self.empty(info), np.float32)
            found[name] = found[name].astype(helper.tensor_dtype_to_np_dtype(info.dtype))
        return found

    def empty(self, info: ValueInfo) -> tuple[int, ...]:
        """The shape of a past of no tokens; a size of a head that the graph leaves open is the model's."""
        axes, shape = past_view(info).axes, info.shape or ()
        row = axes.index((Atom(Rows.P),))
        return tuple(
            0
            if i == row
            else size
            if isinstance(size, int)
            else 1
            if i < row
            else self.dims.head_dim
            for i, size in enumerate(shape)
        )


def open_onnx_source(path: Path, dims: Dims, threads: int) -> OnnxSource:
    """The graph at a path that the frontend has raised."""
    model = read_model(find_graph(path))
    return OnnxSource(open_source(model, threads=threads), find_ports(model), dims)
