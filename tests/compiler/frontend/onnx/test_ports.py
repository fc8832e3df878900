"""Inputs are told by dtype, shape and use, whatever they are called."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto
from support.contrib import Writer, decoder
from support.spelled import Form, attention

from hearth.compiler.frontend.onnx.ports import Role, find_ports
from hearth.compiler.frontend.onnx.reader import read_model
from hearth.compiler.frontend.onnx.values import Mismatch


def learned(w: Writer, ids: str, positions: int = 90) -> str:
    """Words, types and positions."""
    x = ids
    tables = [w.tensor(np.ones((n, 64), np.float32), "table") for n in (48, 2, positions)]
    names = [w.input(name, TensorProto.INT64, ["batch", "tokens"]) for name in ("q", "r")]
    parts = [w.op("Gather", t, i) for t, i in zip(tables, (ids, *names), strict=True)]
    x = w.op("Add", parts[0], parts[1])
    return w.op("Add", x, parts[2])


def renamed(path: Path) -> Path:
    """Every input called by a number."""
    model = onnx.load(path)
    names = {each.name: f"in{i}" for i, each in enumerate(model.graph.input)}
    for each in model.graph.input:
        each.name = names[each.name]
    for node in model.graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
    onnx.save(model, path)
    return path


def test_roles_without_names(tmp_path: Path) -> None:
    form = Form(rope="half")
    model = decoder(tmp_path, lambda w, x: attention(w, x, form), embedding=learned)
    roles = list(find_ports(read_model(renamed(model))).roles.values())
    wanted = [Role.IDS, Role.MASK, Role.TYPES, Role.POSITIONS, Role.PAST, Role.PAST]
    assert roles == wanted


@pytest.mark.parametrize("positions", [90, 64])  # more than words; as many as columns
def test_ids_are_what_logits_are_of(tmp_path: Path, positions: int) -> None:
    """Logits of undeclared shape, behind hidden states: a longer table does not make positions ids."""
    form = Form(rope="half")
    path = decoder(
        tmp_path,
        lambda w, x: attention(w, x, form),
        embedding=lambda w, ids: learned(w, ids, positions),
    )
    model = onnx.load(path)
    logits = next(each for each in model.graph.output if each.name == "logits")
    logits.type.tensor_type.ClearField("shape")
    head = next(node for node in reversed(model.graph.node) if node.op_type == "MatMul")
    hidden = onnx.helper.make_tensor_value_info(head.input[0], TensorProto.FLOAT, ["b", "t", 64])
    model.graph.output.insert(0, hidden)
    onnx.save(model, path)
    ports = find_ports(read_model(path))
    assert ports.named(Role.IDS) == ("input_ids",)
    assert ports.named(Role.POSITIONS) == ("r",)


def test_an_input_of_no_kind(tmp_path: Path) -> None:
    def odd(w: Writer, x: str) -> str:
        w.op("Abs", w.input("odd", TensorProto.DOUBLE, [3]))
        return attention(w, x, Form())

    with pytest.raises(Mismatch, match="'odd'"):
        find_ports(read_model(decoder(tmp_path, odd)))


def test_ids_of_a_computed_table_are_not_taken_for_a_mask(tmp_path: Path) -> None:
    """Then the token types, whose table is stored, would be the ids."""
    form = Form(rope="half")
    path = decoder(tmp_path, lambda w, x: attention(w, x, form), embedding=learned)
    model = onnx.load(path)
    words = next(node for node in model.graph.node if "input_ids" in node.input)
    computed = onnx.helper.make_node("Tanh", [words.input[0]], ["computed"])
    words.input[0] = "computed"
    model.graph.node.insert(0, computed)
    onnx.save(model, path)
    with pytest.raises(Mismatch, match="'input_ids' indexes what is no stored table"):
        find_ports(read_model(path))
