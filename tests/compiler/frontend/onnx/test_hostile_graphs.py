"""Absurd graphs are not raised, with a reason, in bounded time and memory; raising never crashes."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper
from support.contrib import HIDDEN, VOCAB, Step, Writer, decoder
from support.raised import info, reasons, save, try_raise
from support.spelled import Form, attention, ints, number, size

from hearth.compiler.frontend.onnx.whole import NotRaised


def huge(w: Writer, x: str) -> str:
    """A constant of 4 TiB, added."""
    large = w.op("ConstantOfShape", ints(w, 1 << 20, 1 << 20))
    return w.op("Add", x, w.op("ReduceSum", large, ints(w, 0, 1), keepdims=0))


def broadcast(w: Writer, x: str) -> str:
    """Two vectors that make a matrix of 1 TiB."""
    one = w.op("ConstantOfShape", ints(w, 1 << 19, 1))
    other = w.op("ConstantOfShape", ints(w, 1, 1 << 19))
    return w.op("Add", x, w.op("ReduceMax", w.op("Add", one, other), ints(w, 0, 1), keepdims=0))


def endless(w: Writer, x: str) -> str:
    """A loop of 2^62 turns."""
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go"], ["on"]),
            helper.make_node("Add", ["v", "v"], ["u"]),
        ],
        "body",
        [
            info("i", TensorProto.INT64, []),
            info("go", TensorProto.BOOL, []),
            info("v", TensorProto.FLOAT, []),
        ],
        [info("on", TensorProto.BOOL, []), info("u", TensorProto.FLOAT, [])],
    )
    turns, yes = w.tensor(np.array(1 << 62), "turns"), w.tensor(np.array(True), "yes")
    return w.op("Add", x, w.op("Loop", turns, yes, number(w, 0.0), body=body))


def deep(w: Writer, x: str) -> str:
    """3000 nodes one after the other, none of which is known."""
    for _ in range(3000):
        x = w.op("Softplus", x)
    return x


def wide(w: Writer, x: str) -> str:
    """A position-only value of 3000 nodes."""
    y = size(w, "input_ids", 1)
    for _ in range(3000):
        y = w.op("Add", y, w.tensor(np.array(1), "one"))
    return w.op("Add", x, w.op("Cast", y, to=TensorProto.FLOAT))


def empty(w: Writer, x: str) -> str:
    return w.op("Reshape", x, w.tensor(np.array([], np.int64), "nothing"))


def negative(w: Writer, x: str) -> str:
    return w.op("Reshape", x, ints(w, -5, -7))


def beyond(w: Writer, x: str) -> str:
    return w.op("Transpose", x, perm=[0, 7, 1])


def to_itself(w: Writer, x: str) -> str:
    return w.op("Gather", x, x, axis=40)


@pytest.mark.parametrize(
    "step", [huge, broadcast, endless, deep, wide, empty, negative, beyond, to_itself]
)
def test_no_graph_takes_all(tmp_path: Path, step: Step) -> None:
    started = time.monotonic()
    try:
        model = decoder(tmp_path, mlp=step)
        assert reasons(model)
    finally:
        assert time.monotonic() - started < 60


@pytest.mark.parametrize(
    "shape", [[1 << 40], ["b", "h", "p", "d"], [0, 0, 0, 0], ["b", -1, "p", 16]]
)
def test_absurd_inputs(tmp_path: Path, shape: list[int | str]) -> None:
    def attend(w: Writer, x: str) -> str:
        given = w.input("odd", TensorProto.FLOAT, shape)
        w.op("Abs", given)
        return attention(w, x, Form())

    assert isinstance(try_raise(decoder(tmp_path, attend)), NotRaised)


def test_a_graph_of_nothing(tmp_path: Path) -> None:
    nodes = [helper.make_node("Identity", ["x"], ["y"])]
    given = info("x", TensorProto.FLOAT, [1, HIDDEN])
    model = save(
        tmp_path / "m.onnx", nodes, {}, [given], [info("y", TensorProto.FLOAT, [1, VOCAB])]
    )
    assert "no input indexes a table" in reasons(model) or "of no known kind" in reasons(model)
