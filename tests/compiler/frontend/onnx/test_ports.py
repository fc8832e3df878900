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


def learned(w: Writer, ids: str) -> str:
    """Words, types and positions."""
    x = ids
    tables = [w.tensor(np.ones((n, 64), np.float32), "table") for n in (48, 2, 90)]
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


def test_an_input_of_no_kind(tmp_path: Path) -> None:
    def odd(w: Writer, x: str) -> str:
        w.op("Abs", w.input("odd", TensorProto.DOUBLE, [3]))
        return attention(w, x, Form())

    with pytest.raises(Mismatch, match="'odd'"):
        find_ports(read_model(decoder(tmp_path, odd)))
