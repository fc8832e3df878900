"""MatMulNBits and GatherBlockQuantized: every form agrees with onnxruntime, and the codes are the source's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper
from support.contrib import HIDDEN, IDS, PACKED, VOCAB, Writer, decoder, grouped_attention
from support.nbits import Form, Weight, packed, product
from support.raised import compare, raised, reasons

from hearth.compiler.ir.graph import Graph
from hearth.compiler.ir.ops import Embedding, Linear, Op
from hearth.compiler.ir.rewrite import all_outputs, order
from hearth.compiler.ir.tensors import GroupedRows, GroupedSource

FORMS = {
    "int4": Form(),
    "int4_zeros": Form(zeros="packed"),
    "int4_float_zeros": Form(zeros="floats"),
    "int4_block32_ragged": Form(block=32, zeros="packed"),
    "int4_block128": Form(block=128, zeros="packed"),
    "int4_flat": Form(zeros="packed", flat=True),
    "int8": Form(bits=8, block=32),
    "int8_zeros": Form(bits=8, zeros="packed"),
}
K, N = 72, 20


def grouped(graph: Graph, kind: type[Op] = Linear) -> list[GroupedRows]:
    """The rows of every grouped weight, in order."""
    ops = [op for op in order(all_outputs(graph)) if isinstance(op, kind)]
    weights = [op.weight if isinstance(op, Linear) else op.table for op in ops]  # type: ignore[attr-defined]
    values = [weight.value for weight in weights if isinstance(weight.value, GroupedSource)]
    return [value.grouped(0, value.shape[0]) for value in values]


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_mat_mul_n_bits(tmp_path: Path, form: Form) -> None:
    weight = Weight.draw(form, N, K)

    def mlp(w: Writer, x: str) -> str:
        y = product(w, w.op("Relu", w.product(x, HIDDEN, K)), weight, form, accuracy_level=1)
        return w.product(y, N, HIDDEN)

    model = decoder(tmp_path, mlp=mlp)
    graph = raised(model).graph
    compare(graph, model, IDS)
    (rows,) = grouped(graph)
    assert np.array_equal(rows.codes, weight.codes)
    assert np.array_equal(rows.scales, weight.scales)
    assert np.array_equal(rows.zeros, weight.zeros)
    assert rows.group == min(form.block, 80)


def test_bias(tmp_path: Path) -> None:
    form = Form()

    def mlp(w: Writer, x: str) -> str:
        return product(w, x, Weight.draw(form, HIDDEN, HIDDEN), form, "", "", w.bias(HIDDEN))

    model = decoder(tmp_path, mlp=mlp)
    compare(raised(model).graph, model, IDS)


def test_a_permuted_weight_is_refused(tmp_path: Path) -> None:
    form = Form(zeros="packed")

    def mlp(w: Writer, x: str) -> str:
        index = w.tensor(np.arange(HIDDEN, dtype=np.int32)[::-1] // 16, "g_idx")
        return product(w, x, Weight.draw(form, HIDDEN, HIDDEN), form, index)

    assert "g_idx" in reasons(decoder(tmp_path, mlp=mlp))


def test_other_widths_are_refused(tmp_path: Path) -> None:
    def mlp(w: Writer, x: str) -> str:
        blob = np.zeros((HIDDEN, 2, 8), np.uint8)
        scales = np.ones((HIDDEN, 2), np.float32)
        form = {"N": HIDDEN, "K": HIDDEN, "bits": 2, "block_size": 32}
        return w.fused("MatMulNBits", x, w.tensor(blob), w.tensor(scales), **form)

    assert "2 bits" in reasons(decoder(tmp_path, mlp=mlp))


def test_scales_of_another_size_are_refused(tmp_path: Path) -> None:
    form = Form()

    def mlp(w: Writer, x: str) -> str:
        y = product(w, x, Weight.draw(form, HIDDEN, HIDDEN), form)
        w.tensors[w.nodes[-1].input[2]] = np.ones((HIDDEN, 3), np.float32)
        return y

    assert "scales [64, 3]" in reasons(decoder(tmp_path, mlp=mlp))


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("zeros", ["none", "packed"])
def test_gather_block_quantized(tmp_path: Path, bits: int, zeros: str) -> None:
    form = Form(bits=bits, zeros=zeros)
    table = Weight.draw(form, VOCAB, HIDDEN)

    def embedding(w: Writer, ids: str) -> str:
        codes, scales, *points = table.put(w, form)
        w.tensors[codes] = packed(table.codes, bits)
        form_ = {"bits": bits, "block_size": 16, "gather_axis": 0, "quantize_axis": 1}
        return w.fused("GatherBlockQuantized", codes, ids, scales, *points, **form_)

    model = decoder(tmp_path, embedding=embedding)
    graph = raised(model).graph
    compare(graph, model, IDS)
    (rows,) = grouped(graph, Embedding)
    assert np.array_equal(rows.codes, table.codes)
    assert np.array_equal(rows.zeros, table.zeros)


@pytest.mark.parametrize("signed", [False, True], ids=["uint4", "int4"])
def test_gather_of_4_bit_elements(tmp_path: Path, signed: bool) -> None:
    table = Weight.draw(Form(), VOCAB, HIDDEN)
    kind = TensorProto.INT4 if signed else TensorProto.UINT4

    def embedding(w: Writer, ids: str) -> str:
        values = table.codes.astype(np.int8) - (8 if signed else 0)
        codes = w.tensor(helper.make_tensor("t", kind, table.codes.shape, values.reshape(-1)))
        scales = w.tensor(table.scales)
        form = {"block_size": 16, "gather_axis": 0, "quantize_axis": 1}
        return w.fused("GatherBlockQuantized", codes, ids, scales, **form)

    model = decoder(tmp_path, embedding=embedding)
    graph = raised(model).graph
    compare(graph, model, IDS)
    (rows,) = grouped(graph, Embedding)
    assert np.array_equal(rows.codes, table.codes)


def test_a_table_shared_with_the_head_is_one_constant(tmp_path: Path) -> None:
    form = Form(block=32)
    table = Weight.draw(form, VOCAB, HIDDEN)
    names: list[str] = []

    def embedding(w: Writer, ids: str) -> str:
        names.extend(table.put(w, form))
        shape = w.tensor(np.array([VOCAB, HIDDEN // 2]), "shape")
        attributes = {"bits": 4, "block_size": 32, "gather_axis": 0, "quantize_axis": 1}
        codes = w.op("Reshape", names[0], shape)
        return w.fused("GatherBlockQuantized", codes, ids, names[1], **attributes)

    def logits(w: Writer, x: str) -> str:
        return w.fused("MatMulNBits", x, *names, N=VOCAB, K=HIDDEN, bits=4, block_size=32)

    model = decoder(tmp_path, embedding=embedding, logits=logits)
    graph = raised(model).graph
    compare(graph, model, IDS)
    ops = order(all_outputs(graph))
    (embed,) = [op for op in ops if isinstance(op, Embedding)]
    assert any(isinstance(op, Linear) and op.weight is embed.table for op in ops)


def test_interleaved_pairs_move_the_rows_of_the_codes(tmp_path: Path) -> None:
    """Pairs become halves: rows of q and k in another order, each as it was."""
    form = Form(zeros="packed")
    weight = Weight.draw(form, PACKED, HIDDEN)

    def attention(w: Writer, x: str) -> str:
        packed_ = product(w, x, weight, form)
        return grouped_attention(w, x, packed=packed_, rotary_interleaved=1)

    model = decoder(tmp_path, attention)
    graph = raised(model).graph
    compare(graph, model, IDS)
    kept = [row.tobytes() for rows in grouped(graph) for row in rows.codes]
    assert sorted(kept) == sorted(row.tobytes() for row in weight.codes)
