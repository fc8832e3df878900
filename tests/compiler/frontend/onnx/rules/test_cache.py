"""Caches: past and new rows joined in either layout; a past that is read or continued oddly is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from onnx import TensorProto
from support.contrib import HEAD_DIM, HEADS, HIDDEN, IDS, Writer, decoder, past, present
from support.raised import compare, info, raised, reasons
from support.spelled import hidden, ints, scores, split_heads

from hearth.compiler.ir.ops import KVWrite
from hearth.compiler.ir.rewrite import all_outputs, order

WIDTH = HEADS * HEAD_DIM


def attention(w: Writer, x: str, form: str = "apart") -> str:
    q, k, v = (split_heads(w, w.product(x, HIDDEN, WIDTH), HEADS) for _ in range(3))
    if form == "rows first":  # [B, P, H, D]
        k, v = (rows_first(w, each, i) for i, each in enumerate((k, v)))
    elif form == "new first":
        k, v = (
            w.op("Concat", each, past(w, str(i), HEADS), axis=2) for i, each in enumerate((k, v))
        )
    elif form == "shared":  # one past for both
        name = past(w, "0", HEADS)
        k, v = (w.op("Concat", name, each, axis=2) for each in (k, v))
    elif form == "halved":
        name = past(w, "0", HEADS)
        half = w.op("Mul", name, w.op("Cast", ints(w, 2), to=TensorProto.FLOAT))
        k, v = (w.op("Concat", half, each, axis=2) for each in (k, v))
    else:
        pasts = [past(w, str(i), HEADS) for i in range(2)]
        if form == "unread":
            past(w, "9", HEADS)
            w.op("Abs", "past_9")
        k, v = (w.op("Concat", p, each, axis=-2) for p, each in zip(pasts, (k, v), strict=True))
        handed = {"negated": w.op("Neg", v), "swapped": k}.get(form, v)
        present(w, k, "0", HEADS)
        present(w, handed, "1", HEADS)
    weights = w.op("Softmax", hidden(w, scores(w, q, k, "mul"), "additive"), axis=-1)
    y = w.op("Transpose", w.op("MatMul", weights, v), perm=[0, 2, 1, 3])
    return w.product(w.op("Reshape", y, ints(w, 0, 0, WIDTH)), WIDTH, HIDDEN)


def rows_first(w: Writer, x: str, index: int) -> str:
    shape: list[int | str] = ["batch", "past", HEADS, HEAD_DIM]
    before = w.input(f"past_{index}", TensorProto.FLOAT, shape)
    joined = w.op("Concat", before, w.op("Transpose", x, perm=[0, 2, 1, 3]), axis=1)
    w.output(joined, f"present_{index}", ["batch", "total", HEADS, HEAD_DIM])
    return w.op("Transpose", joined, perm=[0, 2, 1, 3])


@pytest.mark.parametrize("form", ["apart", "rows first"])
def test_joined(tmp_path: Path, form: str) -> None:
    model = decoder(tmp_path, lambda w, x: attention(w, x, form))
    graph = raised(model).graph
    compare(graph, model, IDS)
    assert len([op for op in order(all_outputs(graph)) if isinstance(op, KVWrite)]) == 2


REFUSED = {
    "new first": "does not begin with an input of past",
    "shared": "is continued by two different values",
    "halved": "in another order than it is stored",
    "unread": "is no past that new rows are appended to",
    "negated": "'present_1' changes the keys or values that it hands on",
    "swapped": "what continues input 'past_1' is no output",
}


@pytest.mark.parametrize("form", REFUSED)
def test_refused(tmp_path: Path, form: str) -> None:
    model = decoder(tmp_path, lambda w, x: attention(w, x, form))
    assert REFUSED[form] in reasons(model)


def test_a_present_that_is_cut_is_refused(tmp_path: Path) -> None:
    """A cache of the last rows alone: not what the archive would keep."""

    def cut(w: Writer, x: str) -> str:
        y = attention(w, x)
        (joined,) = [n.input[0] for n in w.nodes if n.output[0] == "present_0"]
        w.outputs.append(info("last", TensorProto.FLOAT, ["batch", HEADS, 4, HEAD_DIM]))
        part = w.op("Slice", joined, ints(w, -4), ints(w, 1 << 60), ints(w, 2))
        w.nodes.append(w.nodes.pop())
        w.nodes[-1].output[0] = "last"
        assert part
        return y

    assert "output 'last' was not raised" in reasons(decoder(tmp_path, cut))
