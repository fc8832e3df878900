"""MatMulNBits and GatherBlockQuantized: weights of 4 or 8 bits in blocks along K, their codes kept."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto

from hearth.compiler.frontend.onnx.coded import (
    BITS,
    SIGNED,
    SMALLEST_GROUP,
    Flat,
    GroupedTensor,
    Repeated,
    Table,
    Unpacked,
    fitted_group,
)
from hearth.compiler.frontend.onnx.model import Initializer, Node
from hearth.compiler.frontend.onnx.raising import Raising, integer, optional_input
from hearth.compiler.frontend.onnx.rules.embedding import look_up
from hearth.compiler.frontend.onnx.rules.linear import apply
from hearth.compiler.frontend.onnx.values import Mismatch, View
from hearth.compiler.frontend.onnx.weights import STORED
from hearth.compiler.ir.ops import Constant

LONGEST_CHAIN = 8


def mat_mul_n_bits(node: Node, raising: Raising) -> View:
    """x @ dequantised(B)^T (+ bias)."""
    if optional_input(node, 4) is not None:
        raise Mismatch("has a g_idx: its groups are not consecutive values of K")
    n, k = integer(node, "N", 0), integer(node, "K", 0)
    bits, block = integer(node, "bits", 4), integer(node, "block_size", 0)
    weight = blocked(node, (0, 1, 2, 3), (n, k), bits, block, raising)
    bias = optional_input(node, 5)
    view = raising.view(node.inputs[0])
    return apply(view, weight, None if bias is None else raising.vector(bias, n))


def gather_block_quantized(node: Node, raising: Raising) -> View:
    """Rows of a table in blocks along its last axis."""
    data = stored(node.inputs[0], raising)
    bits, block = integer(node, "bits", 4), integer(node, "block_size", 128)
    if data.dtype != TensorProto.UINT8:
        bits = BITS[data.dtype]
    shape = shape_of(node.inputs[0], raising)
    k = shape[-1] * (8 // bits if data.dtype == TensorProto.UINT8 else 1)
    if (
        len(shape) != 2
        or integer(node, "gather_axis", 0)
        or integer(node, "quantize_axis", 1) % 2 != 1
    ):
        raise Mismatch(f"takes rows of {list(shape)} along other axes than the first")
    table = blocked(node, (1, 0, 2, 3), (shape[0], k), bits, block, raising)
    return look_up(table, raising.view(node.inputs[1]))


def blocked(
    node: Node,
    places: tuple[int, int, int, int],
    shape: tuple[int, int],
    bits: int,
    block: int,
    raising: Raising,
) -> Constant:
    """The weight [N, K] of a node whose inputs lie at `places`: (activations, codes, scales, zero points)."""
    n, k = shape
    if bits not in (4, 8):
        raise Mismatch(f"has weights of {bits} bits; 4 and 8 are kept")
    if block < SMALLEST_GROUP or block % SMALLEST_GROUP or n < 1 or k < 1:
        raise Mismatch(f"has blocks of {block} values; multiples of {SMALLEST_GROUP} are kept")
    _, at, scale_at, zero_at = places
    codes, scales = stored(node.inputs[at], raising), stored(node.inputs[scale_at], raising)
    zeros = optional_input(node, zero_at)
    key = (codes.name, scales.name, zeros, n, k, bits, block)
    return raising.constants.coded(
        key, codes.name, lambda: _tensor(codes, scales, zeros, (n, k), bits, block, raising)
    )


def _tensor(
    codes: Initializer,
    scales: Initializer,
    zeros: str | None,
    shape: tuple[int, int],
    bits: int,
    block: int,
    raising: Raising,
) -> GroupedTensor:
    n, k = shape
    groups = -(-k // block)
    signed = codes.dtype in SIGNED
    if codes.dtype not in BITS or scales.dtype not in STORED:
        raise Mismatch(f"codes {codes.name!r} or scales {scales.name!r} are of another type")
    if int(np.prod(scales.shape)) != n * groups:
        raise Mismatch(f"scales {list(scales.shape)} for {n} rows of {groups} blocks")
    shift = 1 << (bits - 1) if signed else 0
    middle = 0 if signed or codes.dtype == TensorProto.UINT4 else 1 << (bits - 1)
    return GroupedTensor(
        shape,
        bits,
        fitted_group(block, k),
        _codes(codes, shape, groups * block, bits),
        Flat(scales, groups),
        _zeros(zeros, n, groups, bits, middle, raising),
        shift,
    )


def _codes(codes: Initializer, shape: tuple[int, int], padded: int, bits: int) -> Table:
    """Stored one by one, or packed in bytes with rows padded to whole blocks or not."""
    n, k = shape
    count = int(np.prod(codes.shape))
    if codes.dtype != TensorProto.UINT8:
        if count != n * k:
            raise Mismatch(f"codes {list(codes.shape)} for a weight {list(shape)}")
        return Flat(codes, k)
    for width in (padded * bits // 8, -(-k * bits // 8)):
        if count == n * width:
            return Unpacked(Flat(codes, width), bits, k)
    raise Mismatch(f"codes {list(codes.shape)} for a weight {list(shape)} of {bits} bits")


def _zeros(
    name: str | None, n: int, groups: int, bits: int, middle: int, raising: Raising
) -> Table:
    """Zero points [N, groups]: absent, one by one, or packed as the codes are."""
    if name is None:
        return Repeated(np.full(groups, middle, np.int16))
    zeros = stored(name, raising)
    count = int(np.prod(zeros.shape))
    width = -(-groups * bits // 8)
    if zeros.dtype == TensorProto.UINT8 and count == n * width:
        return Unpacked(Flat(zeros, width), bits, groups)
    if count != n * groups:
        raise Mismatch(f"zero points {list(zeros.shape)} for {n} rows of {groups} blocks")
    if zeros.dtype in STORED:
        _check_whole(zeros, bits)
    elif BITS.get(zeros.dtype) != bits:
        raise Mismatch(f"zero points {zeros.name!r} are no numbers of {bits} bits")
    return Flat(zeros, groups)


def _check_whole(zeros: Initializer, bits: int) -> None:
    """Zero points stored as floats can be kept where they are codes."""
    values = np.asarray(zeros.array(), np.float32)
    if not (np.all(values == np.rint(values)) and np.all((values >= 0) & (values < 1 << bits))):
        raise Mismatch(f"zero points {zeros.name!r} are no whole numbers of {bits} bits")


def stored(name: str, raising: Raising) -> Initializer:
    """The tensor that a value is, however it is shaped."""
    for _ in range(LONGEST_CHAIN):
        found = raising.model.initializers.get(name)
        if found is not None:
            return found
        node = raising.model.producers.get(name)
        if node is None or node.domain or node.op_type not in ("Reshape", "Identity"):
            break
        name = node.inputs[0]
    raise Mismatch(f"{name!r} is no stored tensor")


def shape_of(name: str, raising: Raising) -> tuple[int, ...]:
    """The shape of such a value."""
    node = raising.model.producers.get(name)
    if node is None or node.op_type != "Reshape":
        return stored(name, raising).shape
    sizes = raising.probes.sizes(node.inputs[1])
    if not all(isinstance(size, int) and size > 0 for size in sizes):
        raise Mismatch(f"{name!r} is reshaped to {sizes}")
    return tuple(size for size in sizes if isinstance(size, int))
