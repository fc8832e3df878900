"""onnxruntime, an optional part: sessions over ONNX bytes whose large tensors stay in a mapped file."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hearth.schemas.errors import ArchiveError, InputError, MissingError

if TYPE_CHECKING:
    import onnxruntime

# Element types that numpy lacks: onnxruntime's name, the ONNX number, ml_dtypes' name.
FOREIGN: Mapping[str, tuple[int, str]] = {
    "bfloat16": (16, "bfloat16"),
    "float8e4m3fn": (17, "float8_e4m3fn"),
    "float8e4m3fnuz": (18, "float8_e4m3fnuz"),
    "float8e5m2": (19, "float8_e5m2"),
    "float8e5m2fnuz": (20, "float8_e5m2fnuz"),
    "uint4": (21, "uint4"),
    "int4": (22, "int4"),
    "float4e2m1": (23, "float4_e2m1fn"),
    "float8e8m0": (24, "float8_e8m0fnu"),
    "uint2": (25, "uint2"),
    "int2": (26, "int2"),
}
PACKED = {"uint4": 4, "int4": 4, "float4e2m1": 4, "uint2": 2, "int2": 2}  # bits, many to a byte


def require_onnxruntime() -> Any:
    """The package, or a MissingError that names it."""
    try:
        import onnxruntime
    except ImportError:
        raise MissingError(
            "missing.onnxruntime",
            "parts of this model run in onnxruntime, which is not installed",
            remedy="pip install onnxruntime",
        ) from None
    return onnxruntime


@dataclass(frozen=True, eq=False)
class OnnxEngine:
    """A session, and what its inputs and outputs are called. Several threads may run it at once."""

    session: onnxruntime.InferenceSession
    inputs: Mapping[str, str]  # onnxruntime's type, "tensor(float)" say
    outputs: Mapping[str, str]

    def run(self, feeds: Mapping[str, Any], names: Sequence[str] | None = None) -> dict[str, Any]:
        """The named outputs (None: all). What onnxruntime refuses is an InputError."""
        wanted = list(self.outputs if names is None else names)
        foreign = any(_foreign(self.inputs[name]) for name in feeds)
        foreign = foreign or any(_foreign(self.outputs[name]) for name in wanted)
        try:
            return self._run_values(feeds, wanted) if foreign else self._run(feeds, wanted)
        except Exception as error:
            if type(error).__module__.split(".")[0] == "onnxruntime" or isinstance(
                error, RuntimeError | ValueError
            ):
                raise _failed(error) from None
            raise

    def _run(self, feeds: Mapping[str, Any], wanted: list[str]) -> dict[str, Any]:
        return dict(zip(wanted, self.session.run(wanted, dict(feeds)), strict=True))

    def _run_values(self, feeds: Mapping[str, Any], wanted: list[str]) -> dict[str, Any]:
        values = {name: _to_value(each, self.inputs[name]) for name, each in feeds.items()}
        results = self.session.run_with_ort_values(wanted, values)
        return {
            name: _from_value(each, self.outputs[name])
            for name, each in zip(wanted, results, strict=True)
        }


def open_engine(
    model: bytes, folder: Path | None = None, *, threads: int = 0, optimise: bool = True
) -> OnnxEngine:
    """A session over a serialized ModelProto; external tensors are mapped from files in `folder`.

    Weights are used where they lie: onnxruntime does not repack them. `threads` 0: all cores. Without
    `optimise` the nodes run as they are written. A model that onnxruntime refuses is an ArchiveError.
    """
    ort = require_onnxruntime()
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    options.add_session_config_entry("session.disable_prepacking", "1")
    # Idle threads sleep at once: a process may hold several sessions and the native engine's threads.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if not optimise:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    if folder is not None:
        key = "session.model_external_initializers_file_folder_path"
        options.add_session_config_entry(key, str(folder.resolve()))
    try:
        session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise ArchiveError(
            "archive.onnx",
            f"onnxruntime {ort.__version__} refuses the model: {first_line(error)}",
            expected="a model that this onnxruntime runs",
            remedy="update onnxruntime, or compile again",
        ) from None
    return OnnxEngine(
        session,
        {each.name: each.type for each in session.get_inputs()},
        {each.name: each.type for each in session.get_outputs()},
    )


def first_line(error: Exception) -> str:
    """What onnxruntime says, without its C++ places."""
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0][:300]


def _failed(error: Exception) -> InputError:
    return InputError(
        "input.onnx_failed",
        f"onnxruntime cannot run this input: {first_line(error)}",
        expected="inputs that the model's operators take together",
    )


def _element(kind: str) -> str:
    return kind.removeprefix("tensor(").removesuffix(")")


def _foreign(kind: str) -> bool:
    return _element(kind) in FOREIGN


def _to_value(array: Any, kind: str) -> Any:
    value = require_onnxruntime().OrtValue
    if not _foreign(kind):
        return value.ortvalue_from_numpy(np.ascontiguousarray(array))
    number, _ = FOREIGN[_element(kind)]
    plain = np.ascontiguousarray(array)
    return value.ortvalue_from_numpy_with_onnx_type(plain.view(f"u{plain.itemsize}"), number)


def _from_value(value: Any, kind: str) -> Any:
    if not _foreign(kind):
        return value.numpy()
    shape, nbytes = tuple(value.shape()), value.tensor_size_in_bytes()
    raw = np.frombuffer(ctypes.string_at(value.data_ptr(), nbytes), np.uint8)
    element = _element(kind)
    dtype = foreign_dtype(FOREIGN[element][1])
    if element not in PACKED:
        return raw.view(dtype).reshape(shape)
    bits = PACKED[element]
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    flat = ((raw[:, None] >> shifts) & ((1 << bits) - 1)).reshape(-1)[: int(np.prod(shape))]
    if dtype.name in ("int4", "int2"):
        signed = flat.astype(np.int8)
        flat = np.where(signed >= 1 << (bits - 1), signed - (1 << bits), signed).astype(np.int8)
        return flat.astype(dtype).reshape(shape)
    if dtype.name in ("uint4", "uint2"):
        return flat.astype(dtype).reshape(shape)
    return flat.view(dtype).reshape(shape)


def foreign_dtype(name: str) -> np.dtype[Any]:
    """An element type of the package ml_dtypes."""
    try:
        import ml_dtypes
    except ImportError:
        raise MissingError(
            "missing.ml_dtypes",
            f"this model's {name} values need the package ml_dtypes",
            remedy="pip install ml_dtypes",
        ) from None
    return np.dtype(getattr(ml_dtypes, name))
