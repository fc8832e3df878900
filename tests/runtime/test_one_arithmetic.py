"""One arithmetic: an archive gives the same bits on every instruction set, thread count, chunking and replay.

What is compared is every row of logits of a 300-token text, with `array_equal`, and with the numpy reference.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from support.compiling import graph_before_lowering, wanted
from support.data import DATA, checkpoint

from hearth.compiler.ir.constants import Constants
from hearth.compiler.ir.evaluate import evaluate
from hearth.compiler.ir.state import State
from hearth.runtime import Model, load, native
from hearth.runtime.text.tokenizer import parse_tokenizer

if TYPE_CHECKING:
    from conftest import Archives

ROOT = Path(__file__).parent.parent.parent
LENGTH, CONTEXT = 300, 512
SCHEMES = {
    "int4": {"weights": "int4"},
    "int8": {"weights": "int8"},
    "int4_g64_f16_cache": {"weights": "int4", "group_size": 64, "kv": "f16"},
    "int3": {"weights": "int3", "embeddings": "int6"},
    "int5_g128": {"weights": "int5", "group_size": 128},
    "nf4_g64": {"weights": "nf4", "group_size": 64},
}
CHUNKS = (1, 7, 32, 128, LENGTH)
NAMES = ("hearthside", "stories260K", "stories3M")
names = pytest.mark.parametrize("name", NAMES)
schemes = pytest.mark.parametrize("scheme", SCHEMES)
main_schemes = pytest.mark.parametrize("scheme", ["int4", "int8"])
isas = pytest.mark.parametrize("isa", native.isas())

Rows = NDArray[np.float32]


def model(
    archives: Archives, name: str, scheme: str, threads: int = 2, isa: str | None = None
) -> Model:
    path = archives(name, **SCHEMES[scheme], context=CONTEXT)
    return load(path, threads=threads, isa=isa)


def source(name: str) -> Path:
    """The demo model, or a checkpoint of HEARTH_DATA."""
    if name == "hearthside":
        return ROOT / "models/hearthside"
    return checkpoint(name)


@cache
def text_ids(name: str) -> tuple[int, ...]:
    """300 ids of a text: real stories where there are some, else the project's own page."""
    stories = DATA / "text/tinystories-eval.txt"
    text = stories if stories.is_file() else ROOT / "docs/arithmetic.md"
    backend = parse_tokenizer((source(name) / "tokenizer.json").read_bytes())
    ids = backend.encode(text.read_text()[:4000])
    assert len(ids) >= LENGTH
    return tuple(ids[:LENGTH])


@cache
def reference(name: str, scheme: str) -> Rows:
    """logits[300, V] of the numpy evaluator over the graph before lowering."""
    ids = text_ids(name)
    graph = graph_before_lowering(source(name), wanted(**SCHEMES[scheme], context=CONTEXT))
    constants = Constants()
    logits, _ = evaluate(
        graph, "prefill", ids, State.empty(), logit_rows=LENGTH, constants=constants
    )
    return logits


def all_rows(model: Model, ids: Sequence[int], chunk: int) -> Rows:
    """logits[T, V]: every row, by the prefill entry in chunks."""
    size = min(chunk, model.chunk)
    state, tokens = model.new_state(), np.array(ids, np.int32)
    logits = np.empty((len(ids), model.vocab), np.float32)
    for start in range(0, len(ids), size):
        end = min(start + size, len(ids))
        model.run(state, "prefill", tokens[start:end], start, logits[start:end])
    return logits


@names
@schemes
@isas
def test_every_isa_gives_the_reference(
    archives: Archives, name: str, scheme: str, isa: str
) -> None:
    expected = reference(name, scheme)
    found = all_rows(model(archives, name, scheme, isa=isa), text_ids(name), 32)
    assert np.array_equal(found, expected)


@main_schemes
@isas
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_threads_and_chunks_change_nothing(
    archives: Archives, scheme: str, isa: str, threads: int
) -> None:
    """The odd-sized model: F = 172 fits no group and no block."""
    expected = reference("stories260K", scheme)
    used = model(archives, "stories260K", scheme, threads, isa)
    assert (used.threads, used.isa) == (threads, isa)
    for chunk in CHUNKS:
        assert np.array_equal(all_rows(used, text_ids("stories260K"), chunk), expected), chunk


@main_schemes
@pytest.mark.parametrize("name", ["hearthside", "stories3M"])
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_threads_and_chunks_change_nothing_in_larger_models(
    archives: Archives, name: str, scheme: str, threads: int
) -> None:
    expected = reference(name, scheme)
    used = model(archives, name, scheme, threads)
    for chunk in CHUNKS[threads - 1 :: 2]:
        assert np.array_equal(all_rows(used, text_ids(name), chunk), expected), chunk


@names
@main_schemes
def test_sessions_give_the_same_rows(archives: Archives, name: str, scheme: str) -> None:
    """Prefill in every chunking, token by token, and after rewinding to any place and replaying."""
    ids, expected = list(text_ids(name)), reference(name, scheme)
    session = model(archives, name, scheme).session()
    for chunk in CHUNKS[1:]:
        session.rewind(0)
        assert np.array_equal(session.prefill(ids, chunk=min(chunk, 128)), expected[-1])
    for place in (299, 200, 129, 16, 0):
        session.rewind(place)
        assert np.array_equal(session.prefill(ids[place:]), expected[-1]), place
    session.rewind(250)
    for place in range(250, LENGTH):
        assert np.array_equal(session.decode(ids[place]), expected[place]), place


@main_schemes
def test_other_tokens_in_between_leave_no_trace(archives: Archives, scheme: str) -> None:
    """What was read and rewound, and what a session beside it reads, changes nothing."""
    ids, expected = list(text_ids("hearthside")), reference("hearthside", scheme)
    used = model(archives, "hearthside", scheme)
    session, other = used.session(), used.session()
    session.prefill(ids[:100])
    session.prefill(ids[200:] + ids[100:200])
    session.rewind(100)
    other.prefill(ids[::-1])
    assert np.array_equal(session.prefill(ids[100:]), expected[-1])


@pytest.mark.parametrize(
    "recipe",
    [
        {"weights": "f32", "kv": "f32"},
        {"weights": "f16", "kv": "f16"},
        {"weights": "int4", "activations": "none"},
        {"weights": "int8", "activations": "none", "kv": "f32"},
        {"weights": "lut3", "activations": "none", "embeddings": "int5"},
        {"weights": "int2", "activations": "none", "group_size": 128},
    ],
    ids=str,
)
def test_float_arithmetic_is_the_same_everywhere_too(
    archives: Archives, recipe: dict[str, object]
) -> None:
    """numpy cannot say these bits (it has no fma), but every ISA, thread count and chunking agrees."""
    path, ids = archives("hearthside", **recipe, context=CONTEXT), text_ids("hearthside")[:150]
    expected = all_rows(load(path, threads=1, isa="portable"), ids, 128)
    for isa in native.isas():
        for threads, chunk in ((1, 128), (2, 7), (3, 32)):
            found = all_rows(load(path, threads=threads, isa=isa), ids, chunk)
            assert np.array_equal(found, expected), (isa, threads, chunk)


STEPS = st.tuples(st.integers(1, 40), st.sampled_from((1, 3, 16, 17, 128)), st.floats(0, 3))


@settings(max_examples=30, deadline=None)
@given(steps=st.lists(STEPS, max_size=9))
def test_any_split_gives_the_same_bits(
    tiny_rows: tuple[Model, Rows], steps: list[tuple[int, int, float]]
) -> None:
    """Prefill, decode and rewind in any order: the row after token t is always the same."""
    used, expected = tiny_rows
    session = used.session()
    for count, chunk, back in (*steps, (100, 128, 1.0)):
        part = TINY_IDS[session.position :][:count]
        if not part:
            continue
        logits = session.decode(part[0]) if count == 1 else session.prefill(part, chunk=chunk)
        assert np.array_equal(logits, expected[session.position - 1])
        if back < 1:
            session.rewind(int(back * session.position))


TINY_IDS = np.random.default_rng(5).integers(0, 97, 100).tolist()


@pytest.fixture(scope="module")
def tiny_rows(archives: Archives) -> tuple[Model, Rows]:
    """A random model and its row of logits after each of the tokens, read one by one."""
    used = load(archives("tiny", weights="int4"), threads=2)
    session = used.session()
    return used, np.stack([session.decode(token) for token in TINY_IDS])
