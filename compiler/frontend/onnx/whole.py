"""A whole model raised: the ports found, every value raised, and the graph of a decoder or an encoder made of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hearth.compiler.frontend.encoder import sentence_vector
from hearth.compiler.frontend.onnx.constants import Constants
from hearth.compiler.frontend.onnx.dependence import data_values
from hearth.compiler.frontend.onnx.layers import Layers
from hearth.compiler.frontend.onnx.model import OnnxModel, ValueInfo
from hearth.compiler.frontend.onnx.ports import Ports, find_ports
from hearth.compiler.frontend.onnx.probes import POINTS, WITHOUT_PAST, Probes
from hearth.compiler.frontend.onnx.raising import UNREADABLE, Raising
from hearth.compiler.frontend.onnx.rules import WEIGHTS, is_eager, rules_of
from hearth.compiler.frontend.onnx.subgraphs import Runner
from hearth.compiler.frontend.onnx.unquantised import without_activation_quantisation
from hearth.compiler.frontend.onnx.values import (
    Mismatch,
    Reason,
    Rows,
    Stored,
    Value,
    View,
)
from hearth.compiler.frontend.onnx.views import matrix, shown
from hearth.compiler.frontend.sentence import Sentence
from hearth.compiler.ir.graph import Graph
from hearth.compiler.ir.ops import Add, L2Normalize, Linear, Op, Pool, Position, tensor
from hearth.compiler.ir.ops import Embedding as Embed
from hearth.compiler.ir.rewrite import order
from hearth.compiler.ir.types import CacheType, Dim
from hearth.schemas.commands import KVScheme, Pooling
from hearth.schemas.manifest import Dims, Embedding, ModelKind


@dataclass(frozen=True)
class Raised:
    """The graph with what the manifest tells of it."""

    kind: ModelKind
    dims: Dims
    graph: Graph
    context: int
    embedding: Embedding | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class NotRaised:
    """Why the model is no decoder and no encoder of the IR."""

    reasons: tuple[Reason, ...]
    longest: int | None = None  # the context at which stored tables end, if that is in the way

    def by_node(self) -> dict[str, str]:
        """What each node's rules say, in one text."""
        found: dict[str, list[str]] = {}
        for reason in self.reasons:
            found.setdefault(reason.node, []).append(f"{reason.rule}: {reason.text}")
        return {node: "; ".join(texts) for node, texts in found.items()}


def raise_model(
    model: OnnxModel, *, context: int, kv: KVScheme, sentence: Sentence
) -> Raised | NotRaised:
    """Raise the whole model, or tell what is in the way."""
    model, notes = without_activation_quantisation(model)
    try:
        ports = find_ports(model)
        raising = _raising(model, ports, context, kv)
    except (Mismatch, *UNREADABLE) as error:
        return NotRaised((Reason("the graph's inputs", "ports", str(error)),))
    names = [info.name for info in model.outputs]
    raising.notes += notes
    raising.raise_all(is_eager, names)
    try:
        return _assembled(raising, sentence)
    except (Mismatch, *UNREADABLE) as error:
        causes = raising.causes(names)
        result = Reason("the graph's outputs", "results", str(error))
        return NotRaised((*causes, result), min(raising.ends, default=None))


def _raising(model: OnnxModel, ports: Ports, context: int, kv: KVScheme) -> Raising:
    values: dict[str, Value] = dict(ports.views())
    data = data_values(model, values)
    points = POINTS if ports.has_past else WITHOUT_PAST
    probes = Probes(model, Runner(model), ports.feeds, data, values, points)
    return Raising(
        model=model,
        ports=ports,
        probes=probes,
        constants=Constants(model, probes, WEIGHTS),
        layers=Layers(context, kv, Position()),
        data=data,
        rules=rules_of,
        values=values,
    )


def _assembled(raising: Raising, sentence: Sentence) -> Raised:
    """The graph whose results are the outputs that are no caches."""
    results = _results(raising)
    _check_continued(raising)
    caches = tuple(op for pair in raising.layers.written for op in pair)
    if not caches:
        raise Mismatch("there is no attention")
    causal = {op.causal for op in raising.layers.attentions}
    if causal == {True}:
        return _decoder(raising, results, caches)
    if causal == {False} and not raising.ports.has_past:
        return _encoder(raising, results, caches, sentence)
    raise Mismatch("some attention is causal and some is not")


def _results(raising: Raising) -> dict[str, View]:
    """The outputs that are matrices; presents are checked and left out."""
    found: dict[str, View] = {}
    for info in raising.model.outputs:
        if info.name not in raising.data:
            raise Mismatch(f"output {info.name!r} depends on no data")
        value = raising.values.get(info.name)
        if isinstance(value, View) and isinstance(value.base, Op):
            found[info.name] = value
        elif not _handed_on(info, raising):
            raise Mismatch(f"output {info.name!r} was not raised")
    if not found:
        raise Mismatch("no output is an activation")
    return found


def _handed_on(info: ValueInfo, raising: Raising) -> tuple[Stored, ...]:
    """The keys and values that an output gives to the next call, as they were stored: one, or a stack of them."""
    node = raising.model.producers.get(info.name)
    parts: Sequence[Value | None] = raising.stacks.get(info.name, (raising.values.get(info.name),))
    if parts == (None,) and node is not None and node.op_type == "Concat":
        parts = [raising.values.get(name) for name in node.inputs]
    found: list[Stored] = []
    for part in parts:
        if not isinstance(part, View) or not isinstance(part.base, Stored):
            return ()
        if part.base.past is not None and part.scale != part.base.scale:
            raise Mismatch(f"output {info.name!r} changes the keys or values that it hands on")
        found.append(part.base)
    return tuple(found)


def _check_continued(raising: Raising) -> None:
    """Every past is continued by this call's rows, read by attention, and handed on."""
    handed = {each for info in raising.model.outputs for each in _handed_on(info, raising)}
    continued = {stored.past.name for stored in raising.appended.values() if stored.past}
    for name, view in raising.ports.views().items():
        if Rows.P in view.dims and name not in continued:
            raise Mismatch(f"input {name!r} is no past that new rows are appended to")
    for stored in raising.appended.values():
        if stored.past is not None and stored not in handed:
            raise Mismatch(f"what continues input {stored.past.name!r} is no output")


def _decoder(raising: Raising, results: dict[str, View], caches: tuple[Op, ...]) -> Raised:
    name, logits = _logits(results)
    head = logits.a if isinstance(logits, Add) else logits
    if isinstance(head, Linear) and any(head.x in op.operands for op in order(caches)):
        raise Mismatch("what the first output is made of is read by the layers too")
    notes = (*raising.notes, *_dropped([each for each in results if each != name]))
    dims = _dims(raising, logits, int(tensor(logits).shape[1]))
    return Raised(
        ModelKind.DECODER,
        dims,
        Graph({"main": (logits, *caches)}),
        raising.layers.context,
        notes=notes,
    )


def _logits(results: dict[str, View]) -> tuple[str, Op]:
    """The output with a row per token and a column per word of the ids' table, else one that a linear gives."""
    found = {name: matrix(view) for name, view in results.items()}
    rows = {name: op for name, op in found.items() if tensor(op).shape[0] is Dim.T}
    words = {tensor(op.table).shape[0] for op in order(rows.values()) if isinstance(op, Embed)}
    for name, op in rows.items():
        if tensor(op).shape[1] in words:
            return name, op
    for name, op in rows.items():
        if isinstance(op, Linear):
            return name, op
    dims = ", ".join(shown(view.dims) for view in results.values())
    raise Mismatch(f"no output of {dims} has a row of logits per token")


def _dropped(names: Sequence[str]) -> tuple[str, ...]:
    return tuple(f"output {name!r} is not in the archive" for name in names)


def _encoder(
    raising: Raising, results: dict[str, View], caches: tuple[Op, ...], sentence: Sentence
) -> Raised:
    """`hidden` is the first output with a row per token; `main` the first pooled one, else the rows pooled."""
    ops = {name: matrix(view) for name, view in results.items()}
    hidden = [name for name, op in ops.items() if tensor(op).shape[0] is Dim.T]
    pooled = [name for name, op in ops.items() if tensor(op).shape[0] == 1]
    vectors = [name for name in pooled if isinstance(_unnormalised(ops[name]), Pool)]
    if vectors and not sentence.asked:
        main = ops[vectors[0]]
        rows = ops[hidden[0]] if hidden else _pooled(main).x
    elif hidden:
        rows = ops[hidden[0]]
        main = sentence_vector(rows, sentence)
    else:
        raise Mismatch("no output has a row per token, and none pools them")
    used = {*vectors[:1], *hidden[:1]}
    vocab = max(int(tensor(op.table).shape[0]) for op in order((rows,)) if isinstance(op, Embed))
    return Raised(
        ModelKind.ENCODER,
        _dims(raising, rows, vocab),
        Graph(
            {"main": (main, *caches), "hidden": (rows, *caches)},
            {"main": ("embedding",), "hidden": ("hidden",)},
        ),
        raising.layers.context,
        _embedding(main),
        (*raising.notes, *_dropped([name for name in results if name not in used])),
    )


def _unnormalised(op: Op) -> Op:
    return op.x if isinstance(op, L2Normalize) else op


def _pooled(op: Op) -> Pool:
    inner = _unnormalised(op)
    if not isinstance(inner, Pool):
        raise Mismatch("the output pools nothing")
    return inner


_POOLINGS = {Pooling.MEAN: "mean", Pooling.FIRST: "cls", Pooling.LAST: "last", Pooling.MAX: "max"}


def _embedding(main: Op) -> Embedding:
    inner = _unnormalised(main)
    pooling = _POOLINGS[inner.kind] if isinstance(inner, Pool) else "none"
    return Embedding(pooling, isinstance(main, L2Normalize), int(tensor(main).shape[1]))


def _dims(raising: Raising, result: Op, vocab: int) -> Dims:
    """The sizes of the manifest, read off the graph."""
    ops = order((result,))
    first = raising.layers.attentions[0]
    cache = raising.layers.written[0][0].cache.type
    assert isinstance(cache, CacheType)
    linears = [op for op in ops if isinstance(op, Linear)]
    widths = [int(tensor(op.weight).shape[1]) for op in linears]
    embeddings = [op for op in ops if isinstance(op, Embed)]
    return Dims(
        layers=len(raising.layers.written),
        hidden=max(int(tensor(op.table).shape[1]) for op in embeddings),
        heads=first.heads,
        kv_heads=cache.heads,
        head_dim=cache.head_dim,
        ffn=max(widths),
        vocab=vocab,
    )
