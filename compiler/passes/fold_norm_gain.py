"""Linear(norm(x, gain, bias), w, b) -> Linear(norm(x), w * gain, b + w @ bias), for RMSNorm and LayerNorm."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from hearth.compiler.ir.graph import Graph
from hearth.compiler.ir.ops import Constant, LayerNorm, Linear, Op, RMSNorm
from hearth.compiler.ir.rewrite import all_outputs, order, rewrite, users
from hearth.compiler.ir.tensors import F32, ScaledColumnsSource, Source, read

LANES = 16
BLOCK_ELEMENTS = 1 << 18
Norm = RMSNorm | LayerNorm


@dataclass(frozen=True, eq=False)
class FoldedBias:
    """before[n] + sum_k weight[n, k] * shift[k]; summed in float64 in 16 lanes, the same bits on every machine."""

    weight: Source
    shift: Source
    before: Source | None
    stored: str = "f32"

    @property
    def shape(self) -> tuple[int, ...]:
        return self.weight.shape[:1]

    def rows(self, start: int, stop: int) -> F32:
        step = max(1, BLOCK_ELEMENTS // self.weight.shape[1])
        blocks = [self._block(at, min(at + step, stop)) for at in range(start, stop, step)]
        return np.concatenate(blocks or [np.zeros(0, np.float32)])

    def _block(self, start: int, stop: int) -> F32:
        products = self.weight.rows(start, stop).astype(np.float64) * read(self.shift)
        total = np.zeros(len(products))
        if self.before is not None:
            total += self.before.rows(start, stop)
        lanes = np.zeros((len(products), LANES))
        for low in range(0, products.shape[1], LANES):
            part = products[:, low : low + LANES]
            lanes[:, : part.shape[1]] += part
        for lane in lanes.T:
            total += lane
        return np.asarray(total, np.float32)


def _floats(op: Op | None) -> Source | None:
    """The values of a float constant."""
    match op:
        case Constant(value=value) if isinstance(value, Source):
            return value
    return None


def _foldable(graph: Graph) -> set[Op]:
    """Constants of norms that feed linears alone, each with a weight of its own (a tied table keeps its values)."""
    readers, outputs = users(graph), set(all_outputs(graph))

    def takes(reader: Op, norm: Op) -> bool:
        match reader:
            case Linear(x=x, weight=weight, bias=bias) if _floats(weight) is not None:
                addable = bias is None or _floats(bias) is not None
                own = len(readers[weight]) == 1 and reader.residual is not norm
                return x is norm and addable and own
        return False

    def folds(norm: Norm) -> bool:
        fed, affine = readers.get(norm, []), norm.operands[1:]
        own = all(_floats(op) is not None and len(readers[op]) == 1 for op in affine)
        return own and bool(fed) and all(takes(reader, norm) for reader in fed)

    norms = (op for op in order(all_outputs(graph)) if isinstance(op, Norm) and op not in outputs)
    return {constant for norm in norms if folds(norm) for constant in norm.operands[1:]}


def _bare(norm: Norm) -> Norm:
    match norm:
        case RMSNorm():
            return replace(norm, gain=None)
        case LayerNorm():
            return replace(norm, gain=None, bias=None)


def _folded(linear: Linear, norm: Norm, x: Op) -> Linear | None:
    """The linear over the bare norm x."""
    weight, source = linear.weight, _floats(linear.weight)
    if not isinstance(weight, Constant) or source is None:
        return None
    bias = linear.bias
    shift = _floats(norm.bias) if isinstance(norm, LayerNorm) else None
    if shift is not None:
        name = bias.name if isinstance(bias, Constant) else f"{weight.name}.bias"
        bias = Constant(name, FoldedBias(source, shift, _floats(bias)))
    gain = _floats(norm.gain)
    if gain is not None:
        weight = Constant(weight.name, ScaledColumnsSource(source, gain))
    return replace(linear, x=x, weight=weight, bias=bias)


def fold_norm_gain(graph: Graph) -> Graph:
    """Gain and bias cost nothing at run time, and quantisation sees the weights the inputs really meet.

    As in QuaRot (Ashkboos et al. 2024, arXiv:2404.00456, section 4), which needs norms without gains.
    """
    foldable = _foldable(graph)
    bare: dict[Op, Op] = {}  # one norm without constants per norm, shared by its linears

    def rule(op: Op) -> Op | None:
        match op:
            case Linear(x=RMSNorm() | LayerNorm() as norm) if foldable.intersection(norm.operands):
                return _folded(op, norm, bare.setdefault(norm, _bare(norm)))
        return None

    return rewrite(graph, rule) if foldable else graph
