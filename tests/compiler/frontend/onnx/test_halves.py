"""Graphs in half precision mean what their weights mean in float32; the archive keeps the halves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from support.compiling import wanted
from support.contrib import IDS, Writer, decoder
from support.nbits import Form, Weight, product
from support.raised import compare, raised

from hearth.compiler.pipeline import compile_model
from hearth.runtime.archive.reader import open_archive
from hearth.schemas.commands import Layout


def in_halves(model: onnx.ModelProto) -> tuple[onnx.ModelProto, onnx.ModelProto]:
    """(the model with f16 throughout, the f32 model of the same weights)."""
    half, rounded = onnx.ModelProto(), onnx.ModelProto()
    half.CopyFrom(model)
    rounded.CopyFrom(model)
    for narrow, wide in zip(half.graph.initializer, rounded.graph.initializer, strict=True):
        if narrow.data_type == TensorProto.FLOAT:
            values = numpy_helper.to_array(narrow).astype(np.float16)
            narrow.CopyFrom(numpy_helper.from_array(values, narrow.name))
            wide.CopyFrom(numpy_helper.from_array(values.astype(np.float32), wide.name))
    for value in (*half.graph.input, *half.graph.output):
        if value.type.tensor_type.elem_type == TensorProto.FLOAT:
            value.type.tensor_type.elem_type = TensorProto.FLOAT16
    return half, rounded


def test_f16_throughout(tmp_path: Path) -> None:
    half, rounded = in_halves(onnx.load(decoder(tmp_path)))
    onnx.save(half, tmp_path / "half.onnx")
    compare(raised(tmp_path / "half.onnx").graph, rounded, IDS)


def test_f16_weights_cast_to_f32(tmp_path: Path) -> None:
    half, rounded = in_halves(onnx.load(decoder(tmp_path)))
    model = onnx.ModelProto()
    model.CopyFrom(rounded)
    del model.graph.initializer[:]
    casts = []
    for tensor in half.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT16:
            casts.append(
                helper.make_node("Cast", [f"{tensor.name}.h"], [tensor.name], to=TensorProto.FLOAT)
            )
            tensor.name = f"{tensor.name}.h"
        model.graph.initializer.append(tensor)
    nodes = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend([*casts, *nodes])
    onnx.save(model, tmp_path / "cast.onnx")
    compare(raised(tmp_path / "cast.onnx").graph, rounded, IDS)


def test_the_archive_keeps_halves(tmp_path: Path) -> None:
    half, _ = in_halves(onnx.load(decoder(tmp_path)))
    onnx.save(half, tmp_path / "half.onnx")
    compile_model(tmp_path / "half.onnx", tmp_path / "m.har", wanted(weights="f16", kv="f16"))
    layouts = [entry.layout for entry in open_archive(tmp_path / "m.har").weights_index.tensors]
    assert {layout for layout in layouts if layout is not None} == {Layout.F16B16}


def test_blocks_with_half_scales(tmp_path: Path) -> None:
    form = Form(zeros="packed", block=32)

    def logits(w: Writer, x: str) -> str:
        return product(w, x, Weight.draw(form, 48, 64), form)

    half, rounded = in_halves(onnx.load(decoder(tmp_path, logits=logits)))
    onnx.save(half, tmp_path / "half.onnx")
    compare(raised(tmp_path / "half.onnx").graph, rounded, IDS)
