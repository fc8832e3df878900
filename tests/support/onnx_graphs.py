"""General ONNX graphs in tests: compiled to an archive and loaded, run by onnxruntime alone, and compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from hearth.compiler.frontend.onnx.graph_source import GraphSource
from hearth.compiler.frontend.onnx.reader import ENGINE_IR, read_model
from hearth.compiler.job import Options
from hearth.compiler.pipeline import compile_model
from hearth.compiler.segments.compile import compile_graph
from hearth.runtime import load_graph
from hearth.runtime.graphs.model import GraphModel
from hearth.runtime.graphs.onnx_engine import OnnxEngine, open_engine
from support.compiling import wanted


def compiled(source: Path, output: Path, options: Options | None = None) -> GraphModel:
    """The archive of a model that stays a graph, loaded."""
    compile_model(source, output, options or wanted(weights="f32"))
    return load_graph(output, threads=2)


def compiled_with_islands(source: Path, output: Path, options: Options, least: int) -> GraphModel:
    """The same where islands save at least so many bytes of weights."""
    graph = GraphSource(read_model(source))
    compile_graph(source, source.stem, graph, output, options, least=least)
    return load_graph(output, threads=2)


def saved(model: onnx.ModelProto, folder: Path) -> Path:
    """The model as a file."""
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def engine(model: onnx.ModelProto) -> OnnxEngine:
    """onnxruntime alone, on the model as it is (of an IR version that it reads)."""
    plain = onnx.ModelProto()
    plain.CopyFrom(model)
    plain.ir_version = min(plain.ir_version, ENGINE_IR)
    return open_engine(plain.SerializeToString())


def input_names(model: onnx.ModelProto) -> list[str]:
    """The inputs that have to be given."""
    stored = {tensor.name for tensor in model.graph.initializer}
    return [each.name for each in model.graph.input if each.name not in stored]


def values(given: Any) -> Any:
    """ONNX's forms of values as arrays, lists and None."""
    match given:
        case onnx.TensorProto():
            return onnx.numpy_helper.to_array(given)
        case onnx.SequenceProto():
            return onnx.numpy_helper.to_list(given)
        case onnx.OptionalProto():
            return onnx.numpy_helper.to_optional(given)
        case list():
            return [values(each) for each in given]
        case None:
            return None
    return np.asarray(given)


def difference(found: Any, expected: Any, rtol: float, atol: float) -> str:
    """What differs, "" where nothing does: types, shapes, and numbers beyond the tolerances."""
    if isinstance(expected, list):
        if not isinstance(found, list) or len(found) != len(expected):
            return f"{found!r} for a list of {len(expected)}"
        pairs = zip(found, expected, strict=True)
        return "".join(difference(one, other, rtol, atol) for one, other in pairs)
    if expected is None or found is None:
        return "" if expected is found else f"{found!r} for {expected!r}"
    return _array_difference(np.asarray(found), np.asarray(expected), rtol, atol)


def _array_difference(found: NDArray[Any], expected: NDArray[Any], rtol: float, atol: float) -> str:
    if found.shape != expected.shape:
        return f"shape {found.shape} for {expected.shape}"
    if expected.dtype.kind in "OUS":
        return "" if np.array_equal(found.astype(str), expected.astype(str)) else "other texts"
    if found.dtype != expected.dtype:
        return f"type {found.dtype} for {expected.dtype}"
    if expected.dtype.kind not in "fiubc":
        found, expected = found.astype(np.float64), expected.astype(np.float64)
    close = np.isclose(found, expected, rtol=rtol, atol=atol, equal_nan=True)
    return "" if close.all() else f"{int((~close).sum())} of {close.size} values differ"


def feeds(names: Sequence[str], given: Sequence[Any]) -> Mapping[str, Any]:
    """Inputs by name."""
    return dict(zip(names, map(values, given), strict=False))
