"""Golden vectors of a graph: drawn inputs, and what the graph makes of them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hearth.runtime.graphs.model import GraphModel
from hearth.runtime.graphs.ports import NUMPY
from hearth.runtime.verify.draws import draw
from hearth.schemas.errors import InputError
from hearth.schemas.golden import DrawnPort, GraphCase, Sampled
from hearth.schemas.graph import Engine, GraphPort

SIZES = (2, 1, 4)  # tried in turn for dims that only a call knows
SAMPLES = 64
BLOCK = 1 << 20
MOST_DRAWN = 1 << 24  # elements of an input
# Other versions of onnxruntime, and other CPUs, sum in another order: a thousand roundings of f32, a few of f16.
TOLERANCE: Mapping[str, float] = {"float16": 1e-2, "bfloat16": 5e-2}
USUAL_TOLERANCE = 2e-4


def graph_case(model: GraphModel, seed: int) -> GraphCase | None:
    """The case of a seed; None where no inputs can be drawn that the graph takes, or where it draws numbers itself."""
    for size in SIZES:
        inputs = {port.name: drawn(port, size) for port in model.inputs}
        known = {name: port for name, port in inputs.items() if port is not None}
        if len(known) < len(inputs):
            return None
        try:
            return _case(model, seed, known)
        except InputError:
            continue
    return None


def drawn(port: GraphPort, size: int) -> DrawnPort | None:
    """What to draw for a port; None for what is no numeric tensor of known rank."""
    element = port.type.removeprefix("tensor(").removesuffix(")")
    dtype = NUMPY.get(element, element)
    if port.shape is None:
        return None
    shape = tuple(dim if isinstance(dim, int) else size for dim in port.shape)
    return None if draw(0, "", dtype, shape) is None else DrawnPort(dtype, shape)


def _case(model: GraphModel, seed: int, inputs: Mapping[str, DrawnPort]) -> GraphCase | None:
    feeds = {name: draw(seed, name, port.dtype, port.shape) for name, port in inputs.items()}
    found, again = ({n: sampled(v) for n, v in model.run(feeds).items()} for _ in range(2))
    if found != again:
        return None
    native = all(step.engine is Engine.NATIVE for step in model.plan.steps)
    spread = [TOLERANCE.get(each.dtype, USUAL_TOLERANCE) for each in found.values()]
    spread += [TOLERANCE.get(each.dtype, USUAL_TOLERANCE) for each in inputs.values()]
    return GraphCase(seed, inputs, found, 0.0 if native else max(spread, default=USUAL_TOLERANCE))


def sampled(value: Any) -> Sampled:
    """The record of one output: an array, or a sequence of whatever as one text."""
    value = np.asarray(value) if isinstance(value, np.generic) else value
    if not isinstance(value, np.ndarray) or value.dtype.kind in "OUS":
        text = repr(_plain(value)).encode()
        return Sampled("text", np.shape(value), hashlib.sha256(text).hexdigest(), (), 0.0)
    whole = np.ascontiguousarray(value).reshape(-1)
    digest = hashlib.sha256(whole.view(np.uint8).data).hexdigest()
    flat = whole.view(whole.real.dtype) if whole.dtype.kind == "c" else whole
    largest = _largest(flat)
    if not np.isfinite(largest):
        return Sampled(str(value.dtype), value.shape, digest, (), 0.0)
    values = flat[:: max(1, -(-flat.size // SAMPLES))].astype(np.float64)
    return Sampled(str(value.dtype), value.shape, digest, tuple(values.tolist()), largest)


def _plain(value: Any) -> Any:
    """The same with lists for arrays, so that its text says all of it."""
    match value:
        case np.ndarray():
            return [str(value.dtype), value.tolist()]
        case list() | tuple():
            return [_plain(each) for each in value]
        case dict():
            return {key: _plain(each) for key, each in value.items()}
    return value


def _largest(flat: NDArray[Any]) -> float:
    """The largest magnitude, block by block: NaN where there is one."""
    blocks = (flat[start : start + BLOCK] for start in range(0, flat.size, BLOCK))
    found = [float(np.abs(block.astype(np.float64)).max()) for block in blocks]
    return float(np.max(found, initial=0.0))


def graph_differences(model: GraphModel, case: GraphCase) -> Iterator[str]:
    """What the graph makes otherwise of a recorded case."""
    feeds = {
        name: draw(case.seed, name, port.dtype, port.shape) for name, port in case.inputs.items()
    }
    unknown = [name for name, feed in feeds.items() if feed is None]
    if unknown:
        yield f"the input {unknown[0]!r} of a case cannot be drawn"
        return
    found = {name: sampled(value) for name, value in model.run(feeds).items()}
    if found.keys() != case.outputs.keys():
        yield f"the outputs are {', '.join(found)}, recorded {', '.join(case.outputs)}"
        return
    for name, wanted in case.outputs.items():
        yield from _difference(name, found[name], wanted, case.tolerance)


def _difference(name: str, found: Sampled, wanted: Sampled, tolerance: float) -> Iterator[str]:
    if (found.dtype, found.shape) != (wanted.dtype, wanted.shape):
        yield f"{name!r} is {found.dtype}{found.shape}, recorded {wanted.dtype}{wanted.shape}"
    elif found.sha256 != wanted.sha256:
        bound = _bound(wanted, tolerance)
        if len(found.values) != len(wanted.values):
            yield f"{name!r} is not finite where it was, or the other way round"
            return
        errors = [abs(a - b) for a, b in zip(found.values, wanted.values, strict=True)]
        worst = max(errors, default=0.0)
        if not bound or worst > bound:
            yield f"{name!r} differs by {worst:.3g}, allowed {bound:.3g}"


def _bound(wanted: Sampled, tolerance: float) -> float:
    """Codes of 8 bits may round to a neighbour; other whole numbers, and text, are exact."""
    if "float" in wanted.dtype or "complex" in wanted.dtype:
        return tolerance * wanted.largest
    return 1.0 if tolerance and wanted.dtype in ("int8", "uint8") else 0.0
