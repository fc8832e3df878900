"""Archives with static codes give the numpy reference on every instruction set, thread count, chunking and batch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from support.data import checkpoint
from support.statics import coded_graph, float_model, measured, write_archive

from hearth.compiler.ir.evaluate import evaluate
from hearth.compiler.ir.ops import tensor
from hearth.compiler.ir.state import State
from hearth.compiler.quantize import Scheme
from hearth.compiler.quantize.schemes import INT4_G32, INT8, parse_scheme
from hearth.runtime import Model, load, native
from hearth.runtime.batch import decode_together
from hearth.schemas.commands import KVScheme

ROOT = Path(__file__).parent.parent.parent
LENGTH = 150
SCHEMES = {
    "int4": Scheme(INT4_G32, INT8, "static", KVScheme.INT8_STATIC),
    "int8": Scheme(INT8, INT8, "static", KVScheme.INT8_STATIC),
    "lut3": Scheme(parse_scheme("lut3_g32"), INT8, "static", KVScheme.INT8_STATIC),
    "static_cache_alone": Scheme(INT8, INT8, "dynamic", KVScheme.INT8_STATIC),
    "float_cache": Scheme(INT8, INT8, "static", KVScheme.F16),
}
NAMES = ("hearthside", "stories260K", "stories3M")


@dataclass(frozen=True)
class Made:
    """An archive, a text, and what numpy says of every row."""

    path: Path
    ids: list[int]
    rows: NDArray[np.float32]


class Making:
    """Archives by name and scheme, each made once."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.made = folder, dict[tuple[str, str], Made]()

    def __call__(self, name: str, scheme: str) -> Made:
        key = name, scheme
        if key not in self.made:
            self.made[key] = self._make(name, scheme)
        return self.made[key]

    def _make(self, name: str, scheme: str) -> Made:
        source = ROOT / "models/hearthside" if name == "hearthside" else checkpoint(name)
        model, graph = float_model(source, 256)
        vocab = int(tensor(graph.entries["prefill"][0]).shape[1])
        ids = np.random.default_rng(7).integers(3, vocab, LENGTH).tolist()
        statics = measured(graph, "prefill", ids[:100], "least-squares")
        kv = SCHEMES[scheme].kv
        if kv is not KVScheme.INT8_STATIC:
            model, graph = float_model(source, 256, kv)
        coded = coded_graph(graph, SCHEMES[scheme], statics)
        path = self.folder / f"{name}-{scheme}.har"
        write_archive(model, coded, SCHEMES[scheme], path)
        rows, _ = evaluate(coded, "prefill", ids, State.empty(), logit_rows=LENGTH)
        return Made(path, ids, rows)


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Making:
    return Making(tmp_path_factory.mktemp("static"))


def all_rows(model: Model, ids: list[int], chunk: int) -> NDArray[np.float32]:
    state, tokens = model.new_state(), np.array(ids, np.int32)
    logits = np.empty((len(ids), model.vocab), np.float32)
    for start in range(0, len(ids), chunk):
        end = min(start + chunk, len(ids))
        model.run(state, "prefill", tokens[start:end], start, logits[start:end])
    return logits


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("isa", native.isas())
def test_every_isa_gives_the_reference(make: Making, scheme: str, isa: str) -> None:
    made = make("hearthside", scheme)
    for threads, chunk in ((1, 128), (2, 7), (3, 32)):
        found = all_rows(load(made.path, threads=threads, isa=isa), made.ids, chunk)
        np.testing.assert_array_equal(found, made.rows)


@pytest.mark.parametrize("name", NAMES[1:])
@pytest.mark.parametrize("isa", native.isas())
def test_other_shapes_give_the_reference(make: Making, name: str, isa: str) -> None:
    made = make(name, "int4")
    found = all_rows(load(made.path, threads=2, isa=isa), made.ids, 64)
    np.testing.assert_array_equal(found, made.rows)


def test_sessions_rewind_and_decode(make: Making) -> None:
    made = make("hearthside", "int4")
    session = load(made.path, threads=2).session()
    for place in (0, 99, 16, 120):
        session.rewind(min(place, session.position))
        np.testing.assert_array_equal(session.prefill(made.ids[session.position :]), made.rows[-1])
    session.rewind(140)
    for place in range(140, LENGTH):
        np.testing.assert_array_equal(session.decode(made.ids[place]), made.rows[place])


def test_batches_give_the_same_rows(make: Making) -> None:
    made = make("hearthside", "int8")
    model = load(made.path, threads=2)
    sessions = [model.session() for _ in range(3)]
    for session, start in zip(sessions, (1, 16, 77), strict=True):
        session.prefill(made.ids[:start])
    for _ in range(4):
        at = [session.position for session in sessions]
        logits = decode_together([(s, made.ids[s.position]) for s in sessions])
        for row, place in zip(logits, at, strict=True):
            np.testing.assert_array_equal(row, made.rows[place])


def test_no_maximum_is_searched_and_the_cache_has_no_scales(make: Making) -> None:
    made = make("hearthside", "int8")
    model = load(made.path)
    ops = {
        command.op for entry in model.archive.program.entries.values() for command in entry.commands
    }
    assert {"rms_norm_quantize_static", "quantize_static"} <= ops
    assert not ops & {"rms_norm_quantize", "quantize"}
    layers = model.archive.kv_layout.layers
    assert all(half.scales is None for layer in layers for half in (layer.k, layer.v))
