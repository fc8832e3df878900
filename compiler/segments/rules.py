"""Which nodes are row by row, as the native engine computes, and the IR op of each: one rule per operator.

A rule raises NotNative to say why a node stays ONNX.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from hearth.compiler.frontend.onnx.model import Node
from hearth.compiler.ir.ops import (
    Activate,
    Add,
    Constant,
    LayerNorm,
    Linear,
    Mul,
    Op,
    RMSNorm,
)
from hearth.compiler.segments.facts import Facts, NotNative
from hearth.schemas.commands import Activation

Get = Callable[[str], Op]


@dataclass(frozen=True)
class Native:
    """A node as the IR has it: it reads the matrices `reads`; `make` builds the op from theirs.

    `weights` are the constants it multiplies with.
    """

    reads: tuple[str, ...]
    make: Callable[[Get], Op]
    weights: tuple[Constant, ...] = ()


Rule = Callable[[Node, Facts], Native]


def matmul(node: Node, facts: Facts) -> Native:
    """x @ w, w[K, N] stored."""
    x, w = node.inputs
    weight = facts.weight(w, transposed=True)
    return _linear(x, weight, None, facts)


def gemm(node: Node, facts: Facts) -> Native:
    """x @ w + c; alpha and beta 1, x not transposed, c a vector."""
    x, w, c = (*node.inputs, "")[:3]
    settings = {name: node.attributes.get(name, default) for name, default in GEMM.items()}
    weight = facts.weight(w, transposed=not settings.pop("transB"))
    if settings != {"alpha": 1.0, "beta": 1.0, "transA": 0}:
        raise NotNative("scales or transposes its operands")
    bias = facts.vector(c, weight.value.shape[0]) if c else None
    return _linear(x, weight, bias, facts)


GEMM: Mapping[str, float] = {"alpha": 1.0, "beta": 1.0, "transA": 0, "transB": 0}


def _linear(x: str, weight: Constant, bias: Constant | None, facts: Facts) -> Native:
    if facts.columns(x) != weight.value.shape[1]:
        raise NotNative("the operands do not fit")

    def make(get: Get) -> Op:
        product = Linear(get(x), weight)
        return product if bias is None else Add(product, bias)

    return Native((x,), make, (weight,))


def add(node: Node, facts: Facts) -> Native:
    """Two matrices, or a matrix and a stored vector."""
    a, b = node.inputs
    if facts.stored(a):
        a, b = b, a
    if facts.stored(b):
        bias = facts.vector(b, facts.columns(a))
        return Native((a,), lambda get: Add(get(a), bias))
    facts.same(a, b)
    return Native((a, b), lambda get: Add(get(a), get(b)))


def mul(node: Node, facts: Facts) -> Native:
    """Two matrices; x * sigmoid(x) is silu."""
    a, b = node.inputs
    facts.same(a, b)
    return Native((a, b), lambda get: _product(get(a), get(b)))


def _product(a: Op, b: Op) -> Op:
    match a, b:
        case (x, Activate(x=y, activation=Activation.SIGMOID)) if x is y:
            return Activate(x, Activation.SILU)
        case (Activate(x=y, activation=Activation.SIGMOID), x) if x is y:
            return Activate(x, Activation.SILU)
    return Mul(a, b)


def activation(kind: Activation) -> Rule:
    """One function of every element."""

    def rule(node: Node, facts: Facts) -> Native:
        (x,) = node.inputs
        facts.columns(x)
        return Native((x,), lambda get: Activate(get(x), kind))

    return rule


def gelu(node: Node, facts: Facts) -> Native:
    """The standard's Gelu, by erf or by tanh."""
    form = node.attributes.get("approximate", "none")
    kind = Activation.GELU_TANH if form == "tanh" else Activation.GELU
    return activation(kind)(node, facts)


def biased_gelu(kind: Activation) -> Rule:
    """f(x + bias), the bias optional."""

    def rule(node: Node, facts: Facts) -> Native:
        x, *rest = filter(None, node.inputs)
        if not rest:
            return activation(kind)(node, facts)
        bias = facts.vector(rest[0], facts.columns(x))
        return Native((x,), lambda get: Activate(Add(get(x), bias), kind))

    return rule


def layer_norm(node: Node, facts: Facts) -> Native:
    """LayerNormalization over the last axis, one output."""
    x, gain, bias = (*node.inputs, "")[:3]
    eps = _epsilon(node, 1e-5)
    _check_norm(node, x, facts)
    scale = facts.vector(gain, facts.columns(x))
    shift = facts.vector(bias, facts.columns(x)) if bias else None
    return Native((x,), lambda get: LayerNorm(get(x), scale, shift, eps))


def rms_norm(node: Node, facts: Facts) -> Native:
    """RMSNormalization over the last axis."""
    x, gain = node.inputs
    eps = _epsilon(node, 1e-5)
    _check_norm(node, x, facts)
    scale = facts.vector(gain, facts.columns(x))
    return Native((x,), lambda get: RMSNorm(get(x), scale, eps))


def _check_norm(node: Node, x: str, facts: Facts) -> None:
    if node.attributes.get("axis", -1) not in (-1, facts.rank(x) - 1):
        raise NotNative("normalises over more than the last axis")
    if node.attributes.get("stash_type", 1) != 1:
        raise NotNative("computes in another type than float")


def _epsilon(node: Node, default: float) -> float:
    """The attribute, or the operator's own: that of Skip* is not that of the norms alone."""
    eps = node.attributes.get("epsilon", default)
    if not isinstance(eps, float):
        raise NotNative("has an epsilon that is no number")
    return eps


def skip_layer_norm(node: Node, facts: Facts) -> Native:
    """layer_norm(x + skip + bias)."""
    x, skip, gain, beta, bias = (*node.inputs, "", "")[:5]
    facts.same(x, skip)
    columns, eps = facts.columns(x), _epsilon(node, 1e-12)
    scale = facts.vector(gain, columns)
    shift, added = (facts.vector(name, columns) if name else None for name in (beta, bias))

    def make(get: Get) -> Op:
        total = Add(get(x), get(skip))
        return LayerNorm(total if added is None else Add(total, added), scale, shift, eps)

    return Native((x, skip), make)


def skip_rms_norm(node: Node, facts: Facts) -> Native:
    """rms_norm(x + skip + bias)."""
    x, skip, gain, bias = (*node.inputs, "")[:4]
    facts.same(x, skip)
    columns, eps = facts.columns(x), _epsilon(node, 1e-12)
    scale = facts.vector(gain, columns)
    added = facts.vector(bias, columns) if bias else None

    def make(get: Get) -> Op:
        total = Add(get(x), get(skip))
        return RMSNorm(total if added is None else Add(total, added), scale, eps)

    return Native((x, skip), make)


MICROSOFT = "com.microsoft"
RULES: Mapping[tuple[str, str], Rule] = {
    ("", "MatMul"): matmul,
    ("", "Gemm"): gemm,
    ("", "Add"): add,
    ("", "Mul"): mul,
    ("", "Relu"): activation(Activation.RELU),
    ("", "Tanh"): activation(Activation.TANH),
    ("", "Sigmoid"): activation(Activation.SIGMOID),
    ("", "Gelu"): gelu,
    (MICROSOFT, "Gelu"): activation(Activation.GELU),
    (MICROSOFT, "BiasGelu"): biased_gelu(Activation.GELU),
    (MICROSOFT, "FastGelu"): biased_gelu(Activation.GELU_TANH),
    ("", "LayerNormalization"): layer_norm,
    ("", "RMSNormalization"): rms_norm,
    ("", "SimplifiedLayerNormalization"): rms_norm,
    (MICROSOFT, "SkipLayerNormalization"): skip_layer_norm,
    (MICROSOFT, "SkipSimplifiedLayerNormalization"): skip_rms_norm,
}


NO_RULE = "no native operator computes it row by row"


def native(node: Node, facts: Facts) -> Native:
    """The node as the native engine computes it, or NotNative."""
    rule = RULES.get((node.domain, node.op_type))
    if rule is None:
        raise NotNative(NO_RULE)
    if any(name in facts.used for name in node.outputs[1:]):
        raise NotNative("gives more than one result")
    return rule(node, facts)
