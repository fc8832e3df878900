"""Golden vectors of a new archive, computed by the native engine from the very bytes just written."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

from hearth.compiler.check.samples import CHATS, LONG, SHORT, TEXTS
from hearth.runtime.archive import Archive
from hearth.runtime.encoder import Encoder
from hearth.runtime.graphs.model import GraphModel, graph_model_of
from hearth.runtime.graphs.onnx_engine import Guard
from hearth.runtime.loader import any_of
from hearth.runtime.model import Model
from hearth.runtime.text.chat_template import ChatTemplate
from hearth.runtime.text.tokenizer import Tokenizer
from hearth.runtime.verify.draws import draw_ids
from hearth.runtime.verify.graphs import graph_case
from hearth.runtime.verify.texts import chat_case, clock, text_case
from hearth.runtime.verify.tokens import tokens_case
from hearth.runtime.verify.vectors import vector_case
from hearth.schemas import sections
from hearth.schemas.errors import InputError
from hearth.schemas.golden import ChatCase, Golden, TextCase, VectorCase
from hearth.schemas.manifest import ModelKind

SEED = 1
FEW = 12
LONGEST = 200  # ids of an encoder's longest text, where there is no tokenizer
BEYOND = 3  # tokens in the second prefill chunk
FOLLOWING = 4
SMALL_NBYTES = 64 << 20


@dataclass(frozen=True)
class Made:
    """The section's value, and remarks for the person who compiles."""

    golden: Golden
    notes: tuple[str, ...] = ()


def make_golden(archive: Archive, threads: int) -> Made:
    """Run the unfinished archive. `threads` (0: all cores) changes no bit of it.

    A small file must not make this process large: the graph in it runs under a guard.
    """
    if archive.manifest.kind is ModelKind.GRAPH:
        guard = Guard() if len(archive.data) < SMALL_NBYTES else None
        return _graph(graph_model_of(archive, threads or None, guard=guard))
    model = any_of(archive, threads or None)
    assert not isinstance(model, GraphModel)
    return _decoder(model) if isinstance(model, Model) else _encoder(model)


def _decoder(model: Model) -> Made:
    prompts = list(decoder_prompts(model))
    cases = [tokens_case(model, ids, count) for ids, count in prompts]
    finite = tuple(case for case in cases if case is not None)
    vectors = _decoder_vectors(model, [ids for ids, _ in prompts])
    golden = Golden(tokens=finite, vectors=vectors, texts=texts(model), chats=chats(model))
    return Made(golden, _overflow(len(prompts), len(finite)))


def _decoder_vectors(model: Model, prompts: Sequence[Sequence[int]]) -> tuple[VectorCase, ...]:
    """Those of the same ids, where the decoder has a pooling."""
    if model.manifest.embedding is None:
        return ()
    cases = (vector_case(model.vectors(), ids, ()) for ids in prompts)
    return tuple(case for case in cases if case is not None)


def _encoder(model: Encoder) -> Made:
    prompts = list(encoder_prompts(model))
    cases = [vector_case(model, ids, types) for ids, types in prompts]
    finite = tuple(case for case in cases if case is not None)
    golden = Golden(vectors=finite, texts=texts(model))
    return Made(golden, _overflow(len(prompts), len(finite)))


def _overflow(all_of_them: int, finite: int) -> tuple[str, ...]:
    bad = all_of_them - finite
    note = f"the compiled model's results are not finite on {bad} of {all_of_them} golden inputs"
    return (note,) if bad else ()


def _graph(model: GraphModel) -> Made:
    case = graph_case(model, SEED)
    notes = ("no golden vectors: inputs that this graph takes cannot be drawn, or it draws itself",)
    return Made(Golden(), notes) if case is None else Made(Golden(graphs=(case,)))


def decoder_prompts(model: Model) -> Iterator[tuple[list[int], int]]:
    """(ids, tokens to follow): one token, a few, and more than one prefill chunk where the context allows."""
    short, long = prompt_ids(model, "short", SHORT), prompt_ids(model, "long", LONG)
    lengths = {1: short, min(FEW, model.context): short, model.chunk + BEYOND: long}
    for count, ids in lengths.items():
        if count + FOLLOWING <= model.context or count == 1:
            yield ids[:count], min(FOLLOWING, model.context - count)


def encoder_prompts(model: Encoder) -> Iterator[tuple[list[int], list[int]]]:
    """(ids, types): a short text, a long one, and a pair where the model tells its texts apart."""
    dims = model.manifest.dims
    longest = FEW if model.has_tokenizer else LONGEST
    for count in dict.fromkeys(min(each, model.context) for each in (1, longest)):
        yield draw_ids(SEED, "encoder", count, 1 if dims is None else dims.vocab), []
    texts: list[str | tuple[str, str]] = [SHORT, LONG] if model.has_tokenizer else []
    pairs: list[str | tuple[str, str]] = [(SHORT, TEXTS[-1])] if texts and model.has_types else []
    for text in (*texts, *pairs):
        with suppress(InputError):  # a tokenizer with ids that the model has no rows for
            found = model.encode(text)
            yield list(found.ids), list(found.types) if any(found.types) else []


def prompt_ids(model: Model, name: str, text: str) -> list[int]:
    """Enough ids for the longest prompt: of the text, over and over; drawn where there is no tokenizer."""
    wanted = model.chunk + BEYOND
    found: list[int] = []
    if model.has_tokenizer:
        found = [each for each in model.tokenizer.encode(text) if each < model.vocab]
    if not found:
        return draw_ids(SEED, name, wanted, model.vocab)
    return (found * (wanted // len(found) + 1))[:wanted]


def texts(model: Model | Encoder) -> tuple[TextCase, ...]:
    """What the tokenizer makes of each text, and of the special tokens it has itself."""
    if not model.has_tokenizer:
        return ()
    tokenizer = model.tokenizer
    special = "".join(f"x{text} {text}" for text in tokenizer.special.values())
    return tuple(text_case(tokenizer, text) for text in dict.fromkeys((*TEXTS, special)))


def chats(model: Model) -> tuple[ChatCase, ...]:
    """What the template makes of each chat, with and without the opening of the answer."""
    source = model.archive.text(sections.CHAT_TEMPLATE)
    if source is None:
        return ()
    tokenizer: Tokenizer | None = model.tokenizer if model.has_tokenizer else None
    template = ChatTemplate(source, tokenizer.special if tokenizer else {}, clock)
    return tuple(
        chat_case(template, tokenizer, turns, opened)
        for turns in CHATS.values()
        for opened in (False, True)
    )
