"""What each part of a compile adds to its memory, by formula.

Weights are read, coded and packed batch by batch (lower/blocks.py), so packing holds the buffers of the largest
batch, whatever the model. What was packed is then run for golden vectors, a prompt and a comparison: the archive is
mapped, and the engine has its arena and as much of a cache as is written.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields, is_dataclass, replace
from math import prod
from pathlib import Path

from hearth.compiler.check.blocks import largest_part
from hearth.compiler.check.golden import BEYOND, FOLLOWING
from hearth.compiler.check.inputs import WINDOW
from hearth.compiler.frontend import SourceModel, is_onnx
from hearth.compiler.ir.tensors import GroupedSource, QuantisedSource, Source
from hearth.compiler.lower import Lowered, PackedTensor
from hearth.compiler.lower.blocks import CHANNELS, batches
from hearth.compiler.memory import Need
from hearth.compiler.package import Native, Package
from hearth.compiler.quantize.coding import RoundedSource
from hearth.compiler.quantize.schemes import LEARNED
from hearth.compiler.quantize.tables import SAMPLE_ELEMENTS
from hearth.compiler.transform.mixed import PANEL_NBYTES, MappedRows, MixedRows
from hearth.compiler.transform.rotation import BLOCK_ELEMENTS
from hearth.schemas.commands import KVScheme, Layout
from hearth.schemas.kv_layout import KVLayer, KVLayout
from hearth.schemas.program import Program, Rows

# Bytes alive per weight of a batch at the worst moment. Floats: rows, rows in packed order, packed bytes. Rounded to
# nearest: the stored rows, as f32, scaled; or the rows, codes and the packed bytes. Tables: the search's besides.
FLOAT_BATCH_NBYTES = 12
QUANTISED_BATCH_NBYTES = 11
TABLE_BATCH_NBYTES = 15
LEARNING_NBYTES = 24  # of a weight that a learned table is fitted to
SEARCH_NBYTES = 8 << 20  # look-ups of the threads that search for codes of a table
# Buffers of hashing and writing, and what the allocator keeps; what is imported to run an archive.
SLACK_NBYTES = 4 << 20
RUNTIME_NBYTES = 8 << 20
# onnxruntime itself. Of the weights that run together: the rows, the model, its bytes and the engine take turns.
ENGINE_NBYTES = 20 << 20
WEIGHT_COPIES = 2.75
# Of each byte of a tokenizer.json: as plain data, while a tokenizer is made of it, and then.
PLAIN_COPIES, MAKING_COPIES, MADE_COPIES = 12.5, 12, 4.2
CHAT_TOKENS = 512  # at most, of a template around a system message
ROTATED_COPIES = 5  # f64 of the values that are rotated at once
KV_NBYTES: Mapping[KVScheme, int] = {
    KVScheme.F32: 4,
    KVScheme.F16: 2,
    KVScheme.INT8: 1,
    KVScheme.INT8_STATIC: 1,
}
PAGE_NBYTES = 4096


def native_needs(
    native: Native, package: Package, source: Path, *, checked: int = 0, prompt: str | None = None
) -> list[Need]:
    """Of packing a model, golden vectors, reading a prompt, and comparing `checked` tokens with `source`."""
    made = model_nbytes(native)
    mapped = package.expected_nbytes
    found = [
        Need("to pack", packing_nbytes(native.lowered)),
        Need("to run golden vectors", made + running_nbytes(native.lowered), mapped),
    ]
    if prompt is not None:
        own = made + cached_nbytes(native.lowered, len(prompt.encode()) + CHAT_TOKENS)
        found.append(Need("to read the prompt", own, mapped))
    if checked:
        own = comparing_nbytes(native, source, checked)
        found.append(Need("to run the source", own, mapped))
    return found


def after_engine(needs: Iterable[Need]) -> list[Need]:
    """The same once onnxruntime has run: it stays."""
    return [replace(need, own=need.own + ENGINE_NBYTES) for need in needs]


def packing_nbytes(lowered: Lowered) -> int:
    """Of the tensor that takes most."""
    return max((streaming_nbytes(tensor) for tensor in lowered.weights), default=0) + SLACK_NBYTES


def model_nbytes(native: Native) -> int:
    """Of an archive that is loaded, beside what runs in it: its tokenizer, while it is made."""
    return int(MAKING_COPIES * _tokenizer_nbytes(native.model)) + RUNTIME_NBYTES


def loaded_nbytes(native: Native) -> int:
    """The same, once its tokenizer is there."""
    return int(MADE_COPIES * _tokenizer_nbytes(native.model)) + RUNTIME_NBYTES


def _tokenizer_nbytes(model: SourceModel) -> int:
    return len(model.assets.tokenizer_json or b"")


def running_nbytes(lowered: Lowered) -> int:
    """What the engine holds while golden vectors run."""
    program = lowered.program
    positions = _chunk(program) + BEYOND + FOLLOWING
    return program.arena_nbytes + _touched_io(program) + _caches(lowered.kv_layout, positions)


def cached_nbytes(lowered: Lowered, positions: int) -> int:
    """The same for a prompt, and what is kept of it."""
    program, caches = lowered.program, _caches(lowered.kv_layout, positions)
    return program.arena_nbytes + _touched_io(program) + 2 * caches


def comparing_nbytes(native: Native, source: Path, tokens: int) -> int:
    """What running the source adds: its files read once more, onnxruntime, copies of the weights that run together,
    its results, and those of the archive for a window."""
    tokenizer = _tokenizer_nbytes(native.model)
    columns = max(
        (
            port.columns
            for entry in native.lowered.program.entries.values()
            for port in entry.outputs
        ),
        default=0,
    )
    results = 4 * (tokens + min(tokens, WINDOW)) * columns
    reading = int((PLAIN_COPIES + 1) * tokenizer)
    running = ENGINE_NBYTES + source_nbytes(native.model, source) + results
    running += running_nbytes(native.lowered)
    return max(reading, int((1 + MAKING_COPIES) * tokenizer), loaded_nbytes(native) + running)


def source_nbytes(model: SourceModel, source: Path) -> int:
    """Copies of the weights that run together: all of an ONNX model, of anything else those of a part."""
    if is_onnx(source):
        return int(WEIGHT_COPIES * sum(path.stat().st_size for path in model.files))
    entry = next(iter(model.graph.entries))
    return int(WEIGHT_COPIES * largest_part(model.graph, entry))


def _chunk(program: Program) -> int:
    return max((entry.max_rows[Rows.T] for entry in program.entries.values()), default=0)


def _touched_io(program: Program) -> int:
    """Of io only what a call fills: its inputs, all rows of a result, but one row of logits."""
    ports = [port for entry in program.entries.values() for port in (*entry.inputs, *entry.outputs)]
    one_row = (
        port.columns if port.name == "logits" else port.operand.nbytes // 4 for port in ports
    )
    return 4 * sum(one_row)


def _caches(kv: KVLayout, positions: int) -> int:
    return sum(_written(layer, min(positions, layer.context)) for layer in kv.layers)


def _written(layer: KVLayer, positions: int) -> int:
    """Pages of one layer's cache that hold its first positions: each head's rows lie apart."""
    heads = 2 * layer.heads
    nbytes = positions * layer.head_dim * KV_NBYTES[layer.scheme]
    return min(heads * (nbytes + PAGE_NBYTES), layer.k.codes.nbytes + layer.v.codes.nbytes)


def streaming_nbytes(tensor: PackedTensor) -> int:
    """Buffers of the largest batch of one tensor, and what its rows are made of."""
    if tensor.layout is None:
        return 3 * tensor.nbytes
    n, k = tensor.shape
    ranges = next(batches(n, k, tensor.paired))
    rows = sum(-(-(stop - start) // CHANNELS) * CHANNELS for start, stop in ranges)
    making = making_nbytes(tensor.source) + (SEARCH_NBYTES if tensor.layout.table_bits else 0)
    return rows * k * _batch_nbytes(tensor.layout) + 8 * n + making


def _batch_nbytes(layout: Layout) -> int:
    if layout.table_bits:
        return TABLE_BATCH_NBYTES
    coded = layout in (Layout.Q8B16, Layout.Q4B16)
    return QUANTISED_BATCH_NBYTES if coded else FLOAT_BATCH_NBYTES


def making_nbytes(source: object) -> int:
    """What a source holds to give rows: of what is rotated the rows of one span, of a learned table its sample."""
    inner = max(map(making_nbytes, _sources(source)), default=0)
    match source:
        case MixedRows(map=map_, shape=shape):
            span = 4 * map_.size * prod(shape[1:])
            return span + max(inner, 2 * min(span, PANEL_NBYTES) + _rotating_nbytes(span // 4))
        case MappedRows(shape=shape):
            return inner + _rotating_nbytes(prod(shape))
        case RoundedSource(scheme=scheme, shape=shape) if scheme in LEARNED:
            return inner + LEARNING_NBYTES * min(prod(shape), SAMPLE_ELEMENTS)
    return inner


def _rotating_nbytes(elements: int) -> int:
    return 8 * ROTATED_COPIES * min(elements, BLOCK_ELEMENTS)


def _sources(source: object) -> Iterator[object]:
    """What a source is made of."""
    for each in fields(source) if is_dataclass(source) else ():
        value = getattr(source, each.name)
        parts = value if isinstance(value, tuple) else (value,)
        yield from (
            part for part in parts if isinstance(part, Source | QuantisedSource | GroupedSource)
        )
