"""Graph x Scheme -> Graph: weights of linears and embeddings become coded constants, their inputs Quantize(x)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from hearth.compiler.ir.graph import Graph
from hearth.compiler.ir.ops import INTEGERS, Constant, Linear, Op, Quantize, tensor
from hearth.compiler.ir.rewrite import rewrite
from hearth.compiler.ir.tensors import GroupedSource, QuantisedSource, Source
from hearth.compiler.quantize.coding import RoundedSource
from hearth.compiler.quantize.exact import Exact, exact_linears
from hearth.compiler.quantize.roles import weight_schemes
from hearth.compiler.quantize.schemes import F16, INT8, Scheme, WeightScheme
from hearth.compiler.quantize.smooth import smooth
from hearth.compiler.quantize.sources import HalfSource
from hearth.compiler.quantize.static import Statics, static_codes
from hearth.schemas.dtypes import DType

NOTHING = Exact()
NO_STATICS = Statics()


def quantize(
    graph: Graph,
    scheme: Scheme,
    coded: Mapping[str, QuantisedSource | Source] = MappingProxyType({}),
    statics: Statics = NO_STATICS,
    threads: int = 0,
) -> Graph:
    """The graph with coded weights (a tied table once, by the embeddings' scheme); the same object if all stay.

    `coded` are weights that are coded already, and constants that calibration has changed, by name; the rest of the
    weights is rounded to nearest.
    """
    graph = _given(graph, coded)
    if scheme.activations != "dynamic":
        return static_codes(_code(graph, scheme, threads), scheme, statics)
    graph = smooth(graph, _code(graph, scheme, threads))
    graph = _code(graph, scheme, threads, exact_linears(_code(graph, scheme, threads)))
    return static_codes(graph, scheme, statics)


def _given(graph: Graph, coded: Mapping[str, QuantisedSource | Source]) -> Graph:
    """With the constants that calibration gave."""

    def rule(op: Op) -> Op | None:
        if isinstance(op, Constant) and op.name in coded:
            return Constant(op.name, coded[op.name])
        return None

    return rewrite(graph, rule) if coded else graph


def _code(graph: Graph, scheme: Scheme, threads: int, exact: Exact = NOTHING) -> Graph:
    chosen = weight_schemes(graph, scheme)
    if scheme.weights.bits == INT8.bits:
        chosen |= {weight: F16 for weight in chosen if weight.name in exact.weights}
    coded = {
        weight: _coded(weight, weight_scheme, threads) for weight, weight_scheme in chosen.items()
    }
    quantised_rows: dict[Op, Op] = {}

    def rule(op: Op) -> Op | None:
        match op:
            case Constant() if op in coded:
                return coded[op]
            case Linear(x=x, weight=Constant(name=name) as weight) if (
                scheme.activations == "dynamic" and _codes(weight) and name not in exact.inputs
            ):
                if tensor(x).dtype is DType.F32:
                    return replace(op, x=quantised_rows.setdefault(x, Quantize(x)))
        return None

    return rewrite(graph, rule)


def _coded(weight: Constant, scheme: WeightScheme, threads: int) -> Constant:
    """The constant under a scheme; itself where its form already is that of the scheme."""
    value = weight.value
    if isinstance(value, QuantisedSource | GroupedSource):
        return weight  # the source was quantised already
    if scheme.quantised:
        return Constant(weight.name, RoundedSource(value, scheme, threads))
    if scheme.bits == 16 and value.stored != "f16":
        return Constant(weight.name, HalfSource(value, weight.name))
    return weight


def _codes(weight: Op) -> bool:
    return tensor(weight).dtype in INTEGERS
