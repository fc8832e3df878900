"""Static codes: measured scales and zero points go into the graph, zero points into the biases of the linears behind.

The codes of a linear's input are summed zero point and all: sum e * (a - zero) = sum e * a - zero * sum e,
and the last term is the same for every row of activations, so that it belongs to the bias. No op is added.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from hearth.compiler.ir.graph import Graph
from hearth.compiler.ir.ops import INTEGERS, Cache, Constant, IRError, Linear, Op, Quantize, tensor
from hearth.compiler.ir.rewrite import all_outputs, order, rewrite
from hearth.compiler.ir.tensors import F32, OverCodes, QuantisedRows, QuantisedSource, Source, read
from hearth.compiler.ir.types import Static
from hearth.compiler.quantize.schemes import Scheme
from hearth.schemas.commands import KVKind, KVScheme
from hearth.schemas.dtypes import DType

BATCH_ELEMENTS = 1 << 22  # of a weight whose rows are summed


@dataclass(frozen=True)
class Statics:
    """What calibration measured: the codes of linears' inputs, by their weights' names, and of the caches.

    `dynamic`: weights' names of the linears that keep dynamic codes all the same.
    """

    inputs: Mapping[str, Static] = field(default_factory=dict)
    caches: Mapping[tuple[int, KVKind], Static] = field(default_factory=dict)
    dynamic: frozenset[str] = frozenset()

    def of_input(self, weight: str) -> Static | None:
        """How the input of this weight's linear is coded; None: dynamically. IRError where nothing was measured."""
        if weight in self.dynamic:
            return None
        if weight not in self.inputs:
            raise IRError(f"no static codes were measured for the input of {weight!r}")
        return self.inputs[weight]

    def of_cache(self, layer: int, kind: KVKind) -> Static:
        """How a half of a layer's cache is coded. IRError where nothing was measured."""
        if (layer, kind) not in self.caches:
            raise IRError(f"no static codes were measured for {kind.name} of layer {layer}")
        return self.caches[layer, kind]


@dataclass(frozen=True, eq=False)
class SummedSource(OverCodes):
    """A coded weight that remembers the scaled sum of each row it has given, so that none is coded twice for it."""

    _sums: NDArray[np.float64] = field(init=False)  # [N], NaN: not known yet

    def __post_init__(self) -> None:
        object.__setattr__(self, "_sums", np.full(self.source.shape[0], np.nan))

    def quantised(self, start: int, stop: int) -> QuantisedRows:
        rows = self.source.quantised(start, stop)
        sums = rows.effective().sum(axis=1, dtype=np.int64)  # times an f32: exact in float64
        self._sums[start:stop] = rows.scale.astype(np.float64) * sums
        return rows

    def sums(self) -> NDArray[np.float64]:
        """scale[n] * sum_k e[n, k], f64[N]."""
        n, k = self.shape
        step = max(1, BATCH_ELEMENTS // k)
        for start in range(0, n, step):
            stop = min(start + step, n)
            if np.isnan(self._sums[start:stop]).any():
                self.quantised(start, stop)
        return self._sums


@dataclass(frozen=True, eq=False)
class ZeroPointBias:
    """bias[n] - (scale * zero) * sum_k w[n, k]: what makes up for the zero point of a linear's input."""

    weight: SummedSource
    static: Static
    bias: Source | None

    @property
    def shape(self) -> tuple[int, ...]:
        return self.weight.shape[:1]

    @property
    def stored(self) -> str:
        return "f32"

    def rows(self, start: int, stop: int) -> F32:
        return self._values[start:stop]

    @cached_property
    def _values(self) -> F32:
        """In float64, rounded once."""
        bias = 0.0 if self.bias is None else read(self.bias).astype(np.float64)
        shift = self.static.scale * self.static.zero * self.weight.sums()
        return np.asarray(bias - shift, np.float32)


def static_codes(graph: Graph, scheme: Scheme, statics: Statics) -> Graph:
    """A graph of coded weights with the scheme's static codes; the same object where it has none.

    IRError where a code is missing, or where linears that share an input have different ones.
    """
    fixed = scheme.activations in ("static", "auto")
    if not fixed and scheme.kv is not KVScheme.INT8_STATIC:
        return graph
    rewriter = _Static(statics, _summed(graph, statics) if fixed else {}, fixed, scheme.kv)
    return rewrite(graph, rewriter.rule)


def _summed(graph: Graph, statics: Statics) -> dict[Constant, Constant]:
    """The weights whose rows' sums will be asked for."""
    found = {}
    for op in order(all_outputs(graph)):
        match op:
            case Linear(weight=Constant(name=name, value=QuantisedSource() as value) as weight):
                static = statics.of_input(name) if tensor(weight).dtype in INTEGERS else None
                if static is not None and static.zero:
                    found[weight] = Constant(name, SummedSource(value))
    return found


@dataclass
class _Static:
    statics: Statics
    summed: Mapping[Constant, Constant]
    activations: bool
    kv: KVScheme
    rows: dict[Op, dict[Static | None, Op]] = field(default_factory=dict)
    biases: dict[tuple[Op, Op | None], Constant] = field(default_factory=dict)

    def rule(self, op: Op) -> Op | None:
        match op:
            case Constant() if op in self.summed:
                return self.summed[op]
            case Cache(cache=cache) if self.kv is KVScheme.INT8_STATIC and cache.static is None:
                static = self.statics.of_cache(cache.layer, cache.kind)
                return Cache(replace(cache, scheme=self.kv, static=static))
            case Linear(x=x, weight=Constant() as weight) if (
                self.activations
                and tensor(weight).dtype in INTEGERS
                and tensor(x).dtype is DType.F32
            ):
                return self.linear(op, weight)
        return None

    def linear(self, op: Linear, weight: Constant) -> Linear:
        static = self.statics.of_input(weight.name)
        rows = self.rows.setdefault(op.x, {})
        coded = rows.setdefault(static, Quantize(op.x, static))
        if len(rows) > 1 + (None in rows):
            raise IRError(f"{weight.name!r} shares its input, but not its static codes")
        if static is None or not static.zero:
            return replace(op, x=coded)
        return replace(op, x=coded, bias=self.bias(op, weight, static))

    def bias(self, op: Linear, weight: Constant, static: Static) -> Constant:
        key = weight, op.bias
        if key not in self.biases:
            self.biases[key] = _bias(weight, op.bias, static)
        return self.biases[key]


def _bias(weight: Constant, bias: Op | None, static: Static) -> Constant:
    if not isinstance(weight.value, SummedSource):
        raise IRError(f"the rows of {weight.name!r} are not summed")
    match bias:
        case None:
            return Constant(f"{weight.name}/zero", ZeroPointBias(weight.value, static, None))
        case Constant(name=name, value=Source() as value):
            own = ZeroPointBias(weight.value, static, value)
            return Constant(f"{name}-{weight.name}/zero", own)
    raise IRError(f"the bias of {weight.name!r} is no float constant")
