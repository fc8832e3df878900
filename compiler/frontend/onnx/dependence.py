"""Which values depend on data (token ids, past keys and values), and which on shapes and positions alone."""

from __future__ import annotations

from collections.abc import Iterable

from hearth.compiler.frontend.onnx.model import Node, OnnxModel
from hearth.compiler.frontend.onnx.sessions import reads

SHAPE_ONLY = frozenset({"Shape", "Size"})  # of their input they read its shape alone


def reads_shape_only(node: Node) -> bool:
    return not node.domain and node.op_type in SHAPE_ONLY


def data_values(model: OnnxModel, sources: Iterable[str]) -> frozenset[str]:
    """Every value that depends on the elements of `sources`."""
    found = set(sources)
    for node in model.nodes:
        if not reads_shape_only(node) and any(name in found for name in reads(node)):
            found.update(name for name in node.outputs if name)
    return frozenset(found)
