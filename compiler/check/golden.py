"""Golden vectors of a new archive, computed by the native engine from the very bytes just written."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from hearth.compiler.check.samples import CHATS, LONG, SHORT, TEXTS
from hearth.runtime.archive import Archive
from hearth.runtime.chat_template import ChatTemplate
from hearth.runtime.graph_model import GraphModel, graph_model_of
from hearth.runtime.loader import model_of
from hearth.runtime.model import Model
from hearth.runtime.tokenizer import Tokenizer
from hearth.runtime.verify.draws import draw_ids
from hearth.runtime.verify.graphs import graph_case
from hearth.runtime.verify.texts import chat_case, clock, text_case
from hearth.runtime.verify.tokens import tokens_case
from hearth.schemas import sections
from hearth.schemas.golden import ChatCase, Golden, TextCase
from hearth.schemas.manifest import ModelKind

SEED = 1
FEW = 12
BEYOND = 3  # tokens in the second prefill chunk
FOLLOWING = 4


@dataclass(frozen=True)
class Made:
    """The section's value, and remarks for the person who compiles."""

    golden: Golden
    notes: tuple[str, ...] = ()


def make_golden(archive: Archive, threads: int) -> Made:
    """Run the unfinished archive. `threads` (0: all cores) changes no bit of it."""
    match archive.manifest.kind:
        case ModelKind.DECODER:
            return _decoder(model_of(archive, threads or None))
        case ModelKind.GRAPH:
            return _graph(graph_model_of(archive, threads))
        case ModelKind.ENCODER:
            return Made(Golden())


def _decoder(model: Model) -> Made:
    prompts = list(decoder_prompts(model))
    cases = [tokens_case(model, ids, count) for ids, count in prompts]
    finite = tuple(case for case in cases if case is not None)
    bad = len(prompts) - len(finite)
    notes = (
        f"the compiled model's logits are not finite on {bad} of {len(prompts)} golden prompts",
    )
    golden = Golden(tokens=finite, texts=texts(model), chats=chats(model))
    return Made(golden, notes if bad else ())


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


def prompt_ids(model: Model, name: str, text: str) -> list[int]:
    """Enough ids for the longest prompt: of the text, over and over; drawn where there is no tokenizer."""
    wanted = model.chunk + BEYOND
    found: list[int] = []
    if model.has_tokenizer:
        found = [each for each in model.tokenizer.encode(text) if each < model.vocab]
    if not found:
        return draw_ids(SEED, name, wanted, model.vocab)
    return (found * (wanted // len(found) + 1))[:wanted]


def texts(model: Model) -> tuple[TextCase, ...]:
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
