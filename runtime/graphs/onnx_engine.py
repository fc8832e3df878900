"""onnxruntime, an optional part: sessions over ONNX bytes whose large tensors stay in a mapped file."""

from __future__ import annotations

import ctypes
import re
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

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
UNBOUNDED = ["ConstantFolding"]
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
    ends: float | None = None  # on the monotonic clock; a run that goes on then is an InputError

    def run(self, feeds: Mapping[str, Any], names: Sequence[str] | None = None) -> dict[str, Any]:
        """The named outputs (None: all). What onnxruntime refuses is an InputError."""
        wanted = list(self.outputs if names is None else names)
        foreign = any(_foreign(self.inputs[name]) for name in feeds)
        foreign = foreign or any(_foreign(self.outputs[name]) for name in wanted)
        try:
            with deadline(self.ends) as options:
                run = self._run_values if foreign else self._run
                return run(feeds, wanted, options)
        except Exception as error:
            if type(error).__module__.split(".")[0] == "onnxruntime" or isinstance(
                error, RuntimeError | ValueError
            ):
                raise _failed(error) from None
            raise

    def _run(self, feeds: Mapping[str, Any], wanted: list[str], options: Any) -> dict[str, Any]:
        return dict(zip(wanted, self.session.run(wanted, dict(feeds), options), strict=True))

    def _run_values(
        self, feeds: Mapping[str, Any], wanted: list[str], options: Any
    ) -> dict[str, Any]:
        values = {name: _to_value(each, self.inputs[name]) for name, each in feeds.items()}
        results = self.session.run_with_ort_values(wanted, values, options)
        return {
            name: _from_value(each, self.outputs[name])
            for name, each in zip(wanted, results, strict=True)
        }


@dataclass(frozen=True)
class Guard:
    """Bounds for models that are not trusted yet: memory of all guarded sessions together, and the time of all runs.

    The memory's bound holds for the process: the first guard sets it.
    """

    nbytes: int = 640 << 20
    seconds: float = 10.0


@contextmanager
def deadline(ends: float | None) -> Iterator[Any]:
    """Run options that end the run at that time; None without."""
    if ends is None:
        yield None
        return
    options = require_onnxruntime().RunOptions()
    left = max(ends - time.monotonic(), 0.0)
    timer = threading.Timer(left, setattr, (options, "terminate", True))
    timer.daemon = True
    timer.start()
    try:
        yield options
    finally:
        timer.cancel()


@cache
def _bounded_memory(nbytes: int) -> None:
    """Registers the allocator that guarded sessions share: it refuses what would make it larger."""
    ort = require_onnxruntime()
    ort.set_default_logger_severity(4)  # what is refused is said by its error alone
    place = ort.OrtMemoryInfo(
        "Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT
    )
    ort.create_and_register_allocator(
        place, ort.OrtArenaCfg({"max_mem": nbytes, "arena_extend_strategy": 1})
    )


def bound_memory(options: onnxruntime.SessionOptions, guard: Guard) -> None:
    """Makes a session take its memory from what guarded sessions share."""
    _bounded_memory(guard.nbytes)
    options.add_session_config_entry("session.use_env_allocators", "1")


def open_engine(
    model: bytes,
    folder: Path | None = None,
    *,
    threads: int = 0,
    optimise: bool = True,
    arena: bool = True,
    guard: Guard | None = None,
) -> OnnxEngine:
    """A session over a serialized ModelProto; external tensors are mapped from files in `folder`.

    Weights are used where they lie: onnxruntime does not repack them, nor does it compute constants when it loads,
    which has no bound (the compiler has stored those that pay). `threads` 0: all cores. Without
    `optimise` the nodes run as they are written. Without `arena` every tensor's memory is taken and given back by
    itself: sessions that make a few runs then hold no more than what is alive. A model that onnxruntime refuses is an
    ArchiveError.
    """
    options = _session_options(folder, threads, optimise)
    options.enable_cpu_mem_arena = arena
    if guard is not None:
        bound_memory(options, guard)
    with _loading_deadline(options, guard):
        session = _session(model, options)
    return OnnxEngine(
        session,
        {each.name: each.type for each in session.get_inputs()},
        {each.name: each.type for each in session.get_outputs()},
        None if guard is None else time.monotonic() + guard.seconds,
    )


def _session_options(
    folder: Path | None, threads: int, optimise: bool
) -> onnxruntime.SessionOptions:
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
    return options


@contextmanager
def _loading_deadline(options: onnxruntime.SessionOptions, guard: Guard | None) -> Iterator[None]:
    """What loads with these options meanwhile is given up when the guard's time is over."""
    if guard is None:
        yield
        return
    timer = threading.Timer(guard.seconds, options.set_load_cancellation_flag, (True,))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _session(model: bytes, options: onnxruntime.SessionOptions) -> onnxruntime.InferenceSession:
    ort = require_onnxruntime()
    try:
        return ort.InferenceSession(
            model, options, providers=["CPUExecutionProvider"], disabled_optimizers=UNBOUNDED
        )
    except Exception as error:
        raise ArchiveError(
            "archive.onnx",
            f"onnxruntime {ort.__version__} refuses the model: {first_line(error)}",
            expected="a model that this onnxruntime runs",
            remedy="update onnxruntime, or compile again",
        ) from None


STATUS = re.compile(r"^\[ONNXRuntimeError\] : \d+ : [A-Z_]+ : ")
PLACE = re.compile(r"\S*/onnxruntime/core/\S+:\d+ ")


def first_line(error: Exception) -> str:
    """What onnxruntime says, without its status number and its C++ places."""
    text = STATUS.sub("", " ".join(str(error).split())) or type(error).__name__
    while place := PLACE.search(text):
        text = text[: place.start()] + _after_signature(text[place.end() :])
    return text[:300]


def _after_signature(text: str) -> str:
    """What follows the C++ function that the text begins with."""
    depth = 0
    for at, letter in enumerate(text):
        depth += (letter == "(") - (letter == ")")
        if letter == ")" and depth == 0:
            return text[at + 1 :].lstrip()
    return text


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
    plain = np.asarray(array)
    if not _foreign(kind):
        return value.ortvalue_from_numpy(np.ascontiguousarray(plain).reshape(plain.shape))
    element = _element(kind)
    number, name = FOREIGN[element]
    raw = np.ascontiguousarray(plain.astype(foreign_dtype(name), copy=False)).view(np.uint8)
    if element in PACKED:
        raw = pack(raw.reshape(-1), PACKED[element])
    made = value.ortvalue_from_shape_and_type(plain.shape, number)
    ctypes.memmove(made.data_ptr(), raw.ctypes.data, raw.nbytes)
    return made


def _from_value(value: Any, kind: str) -> Any:
    if not _foreign(kind):
        return value.numpy()
    shape, nbytes = tuple(value.shape()), value.tensor_size_in_bytes()
    raw = np.frombuffer(ctypes.string_at(value.data_ptr(), nbytes), np.uint8)
    element = _element(kind)
    dtype = foreign_dtype(FOREIGN[element][1])
    if element not in PACKED:
        return raw.view(dtype).reshape(shape)
    return (
        unpack(raw, PACKED[element], element.startswith("int"), prod(shape))
        .view(dtype)
        .reshape(shape)
    )


def pack(codes: NDArray[np.uint8], bits: int) -> NDArray[np.uint8]:
    """Codes of 2 or 4 bits into bytes, the first in the lowest bits."""
    each = 8 // bits
    padded = np.zeros(-(-len(codes) // each) * each, np.uint8)
    padded[: len(codes)] = codes & ((1 << bits) - 1)
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    packed: NDArray[np.uint8] = np.bitwise_or.reduce(padded.reshape(-1, each) << shifts, axis=1)
    return packed


def unpack(raw: NDArray[np.uint8], bits: int, signed: bool, count: int) -> NDArray[np.int8]:
    """The inverse of `pack`, one byte for each of `count` codes."""
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    codes = ((raw[:, None] >> shifts) & ((1 << bits) - 1)).reshape(-1)[:count].astype(np.int8)
    return np.where(signed & (codes >= 1 << (bits - 1)), codes - (1 << bits), codes).astype(np.int8)


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
    found: np.dtype[Any] = np.dtype(getattr(ml_dtypes, name))
    return found
