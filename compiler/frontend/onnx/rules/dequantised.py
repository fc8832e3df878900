"""DequantizeLinear of a stored weight: per tensor, per channel or in blocks; its codes kept."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hearth.compiler.frontend.onnx.coded import (
    BITS,
    SIGNED,
    SMALLEST_GROUP,
    Flat,
    GroupedTensor,
    Repeated,
    SymmetricTensor,
    Table,
    Whole,
    fitted_group,
)
from hearth.compiler.frontend.onnx.constants import Constants
from hearth.compiler.frontend.onnx.model import Initializer, Node
from hearth.compiler.frontend.onnx.values import Mismatch
from hearth.compiler.frontend.onnx.weights import STORED
from hearth.compiler.frontend.sources import Panel, Transposed
from hearth.compiler.ir.ops import Constant
from hearth.compiler.ir.tensors import Source

SCAN_NBYTES = 8 << 20


@dataclass(frozen=True)
class Stored:
    """A quantised matrix as the graph stores it, and which way round the weight [N, K] reads it."""

    codes: Initializer
    scales: Initializer
    zeros: Initializer | None
    transposed: bool  # stored [K, N]
    axis: int  # of the scales
    block: int  # 0: one scale per index of the axis

    @property
    def shape(self) -> tuple[int, int]:
        """[N, K]."""
        first, second = self.codes.shape
        return (second, first) if self.transposed else (first, second)

    @property
    def along_rows(self) -> bool:
        """Whether the axis of the scales is N."""
        return self.axis == (1 if self.transposed else 0)


def dequantize_linear(node: Node, transposed: bool, constants: Constants) -> Constant:
    """(codes - zero point) * scale."""
    found = [_tensor(name, constants) for name in node.inputs]
    codes, scales = found[:2]
    if codes is None or scales is None or codes.dtype not in BITS or scales.dtype not in STORED:
        raise Mismatch("dequantises no stored weight of 4 or 8 bits")
    if len(codes.shape) != 2:
        raise Mismatch(f"dequantises {list(codes.shape)}, which is no matrix")
    axis, block = node.attributes.get("axis", 1), node.attributes.get("block_size", 0)
    if not isinstance(axis, int) or not isinstance(block, int):
        raise Mismatch("has odd attributes")
    zeros = found[2] if len(found) > 2 else None
    weight = Stored(codes, scales, zeros, transposed, axis % 2, block)
    key = (codes.name, scales.name, zeros and zeros.name, transposed, weight.axis, block)
    return constants.coded(key, codes.name, lambda: _source(weight, constants))


def _tensor(name: str, constants: Constants) -> Initializer | None:
    if not name:
        return None
    if name not in constants.model.initializers:
        raise Mismatch(f"{name!r} is no stored tensor")
    return constants.model.initializers[name]


def _source(weight: Stored, constants: Constants) -> GroupedTensor | SymmetricTensor:
    n, k = weight.shape
    codes = _oriented(weight.codes, weight.transposed, k, constants.panel)
    bits = BITS[weight.codes.dtype]
    signed = weight.codes.dtype in SIGNED
    groups, group = _groups(weight)
    scales = _spread(weight.scales, weight, groups, constants.scale_panel)
    zeros = _spread(weight.zeros, weight, groups, constants.zero_panel)
    if signed and bits == 8 and groups == 1 and _is_symmetric(weight):
        return SymmetricTensor((n, k), codes, scales)
    return GroupedTensor(
        (n, k), bits, group, codes, scales, zeros, (1 << (bits - 1)) if signed else 0
    )


def _groups(weight: Stored) -> tuple[int, int]:
    """How many scales a row has, and the K-values that share one."""
    n, k = weight.shape
    count = int(np.prod(weight.scales.shape))
    if weight.block:
        groups = -(-k // weight.block)
        if weight.along_rows or count != n * groups:
            raise Mismatch(f"has blocks along N, or {count} scales for {n} rows of {groups} blocks")
        if weight.block % SMALLEST_GROUP and groups > 1:
            raise Mismatch(f"has blocks of {weight.block}; multiples of {SMALLEST_GROUP} are kept")
        return groups, fitted_group(-(-weight.block // SMALLEST_GROUP) * SMALLEST_GROUP, k)
    if count != 1 and (not weight.along_rows or count != n):
        raise Mismatch(f"has {count} scales along K")
    return 1, fitted_group(1 << 30, k)


def _spread(found: Initializer | None, weight: Stored, groups: int, panel: Panel) -> Table | Source:
    """Scales or zero points as rows [N, groups]."""
    if found is None:
        return Repeated(np.zeros(groups, np.int16))
    n = weight.shape[0]
    count = int(np.prod(found.shape))
    block = (groups, n) if weight.transposed else (n, groups)
    if count != 1 and (found.shape != block if weight.block else count != n):
        raise Mismatch(
            f"{found.name!r} {list(found.shape)} does not fit {n} rows of {groups} scales"
        )
    if count == 1:
        return Repeated(np.repeat(found.array().reshape(-1), groups))
    if weight.block:
        return _oriented(found, weight.transposed, groups, panel)
    return Flat(found, 1)


def _oriented(found: Initializer, transposed: bool, width: int, panel: Panel) -> Table | Source:
    return Transposed(Whole(found), panel) if transposed else Flat(found, width)


def _is_symmetric(weight: Stored) -> bool:
    """No zero point, and no code -128, which the int8 kernels leave out."""
    if weight.zeros is not None and np.any(weight.zeros.array()):
        return False
    first, second = weight.codes.shape
    step = max(1, SCAN_NBYTES // max(1, second))
    return all(
        int(weight.codes.rows(low, min(low + step, first)).min(initial=0)) > -128
        for low in range(0, first, step)
    )
