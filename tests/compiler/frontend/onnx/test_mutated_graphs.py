"""A graph changed at random is not raised, or computes what onnxruntime computes: raising never guesses wrong."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from support.contrib import IDS, decoder
from support.raised import Source, compare, try_raise
from support.spelled import Form, attention

from hearth.compiler.frontend.onnx.whole import Raised
from hearth.schemas.errors import CheckpointError

ROUNDS = int(os.environ.get("HEARTH_FUZZ_ROUNDS", "25"))
SWAPS = {
    "Add": "Sub", "Sub": "Add", "Mul": "Div", "Div": "Mul", "Sin": "Cos", "Cos": "Sin",
    "LessOrEqual": "Less", "ReduceMean": "ReduceMax", "Sigmoid": "Tanh", "Neg": "Identity",
    "Sqrt": "Identity", "Reciprocal": "Neg", "Greater": "GreaterOrEqual",
}  # fmt: skip


def mutate(model: onnx.ModelProto, rng: np.random.Generator) -> None:
    """Another operator, another operand, operands in another order, another constant or attribute."""
    nodes = model.graph.node
    node = nodes[int(rng.integers(len(nodes)))]
    match rng.integers(5):
        case 0 if node.op_type in SWAPS:
            node.op_type = SWAPS[node.op_type]
        case 1 if len(node.input) > 1:
            node.input[:] = [*node.input[1:], node.input[0]]
        case 2:
            before = [name for each in nodes[:5] for name in each.output]
            place = int(rng.integers(len(node.input))) if node.input else 0
            if node.input and before:
                node.input[place] = str(rng.choice(before))
        case 3:
            small = [each for each in model.graph.initializer if np.prod(each.dims) <= 8]
            tensor = small[int(rng.integers(len(small)))]
            values = numpy_helper.to_array(tensor)
            change = rng.choice([-1, 1, 2])
            changed = values + np.asarray(change, values.dtype)
            tensor.CopyFrom(numpy_helper.from_array(changed, tensor.name))
        case _ if node.attribute:
            attribute = node.attribute[int(rng.integers(len(node.attribute)))]
            if attribute.type == onnx.AttributeProto.INT:
                attribute.i += int(rng.choice([-1, 1]))
            elif attribute.type == onnx.AttributeProto.INTS and len(attribute.ints) > 1:
                attribute.ints[:] = list(rng.permutation(list(attribute.ints)))


@pytest.mark.parametrize("rope", ["half", "interleaved"])
def test_what_is_raised_is_right(tmp_path: Path, rope: str) -> None:
    form = Form(rope=rope, guard=True, window=6)
    plain = onnx.load(decoder(tmp_path, lambda w, x: attention(w, x, form)))
    raised = 0
    for seed in range(ROUNDS):
        rng = np.random.default_rng(seed)
        model = onnx.ModelProto()
        model.CopyFrom(plain)
        for _ in range(int(rng.integers(1, 3))):
            mutate(model, rng)
        path = tmp_path / f"{seed}.onnx"
        onnx.save(model, path)
        try:
            found = try_raise(path)
        except CheckpointError:
            continue
        if isinstance(found, Raised) and runs(path):
            raised += 1
            compare(found.graph, path, IDS)
    assert raised, "no mutant was raised: the test tests nothing"


def runs(path: Path) -> bool:
    """Whether onnxruntime itself runs the mutant, to finite numbers."""
    try:
        source = Source.open(path)
        return all(bool(np.all(np.isfinite(source.feed(part)))) for part in (IDS[:-2], IDS[-2:-1]))
    except Exception:
        return False
