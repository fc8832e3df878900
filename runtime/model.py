"""A loaded model: the decoder of an archive that reads prompts and writes texts."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, TypeGuard, Unpack, cast

import numpy as np
from numpy.typing import NDArray

from hearth.runtime import native
from hearth.runtime.adapters import AdapterUse
from hearth.runtime.decoder import Decoder
from hearth.runtime.generation.defaults import Asked, Defaults, read_defaults, wishes
from hearth.runtime.generation.generate import Clock, Generation, Speaker
from hearth.runtime.generation.several import Completion, best, complete
from hearth.runtime.generation.writing import Decode, Full, Request, Task
from hearth.runtime.sampling import BeamSearch, Constraint
from hearth.runtime.session import Ids, Session, checked_ids
from hearth.runtime.speculative.choice import Draft, drafter_of
from hearth.runtime.speculative.drafted import Acceptance, Drafted
from hearth.runtime.text.detokenizer import spell_ids
from hearth.runtime.tools.messages import template_messages
from hearth.schemas import sections

if TYPE_CHECKING:
    from hearth.runtime.contexts.conversation import Conversation
    from hearth.runtime.contexts.conversations import Conversations
    from hearth.runtime.decoder_vectors import DecoderVectors
    from hearth.runtime.encoder import Text
    from hearth.runtime.grammar import Grammars, GrammarWish
    from hearth.runtime.text.chat_template import ChatTemplate

FOUR_BEAMS = BeamSearch()

Messages = Sequence[Mapping[str, Any]]
Prompt = str | Messages | Ids


@dataclass(frozen=True, eq=False)
class Model(Decoder):
    """Made by `load`. Sessions may be used from several threads; the engine runs one call at a time."""

    @cached_property
    def chat_template(self) -> ChatTemplate:
        """Parsed on first use."""
        from hearth.runtime.text.chat_template import ChatTemplate

        source = self.needed(
            self.archive.text(sections.CHAT_TEMPLATE),
            "chat template",
            "continue a text instead of messages",
        )
        return ChatTemplate(source, self.tokenizer.special)

    @cached_property
    def defaults(self) -> Defaults:
        """The checkpoint's generation_config.json."""
        return read_defaults(self.part(sections.GENERATION_CONFIG), self.manifest.eos)

    @cached_property
    def grammars(self) -> Grammars:
        """What constrains answers to a form, each wish prepared once: `model.grammars.constraint(wish)`."""
        from hearth.runtime.grammar import Grammars

        return Grammars(self.tokenizer, self.vocab, self.defaults.stop_ids)

    def encode(
        self,
        prompt: Prompt,
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        variables: Mapping[str, Any] | None = None,
    ) -> list[int]:
        """The ids of a prompt: a text with its special tokens, messages by the chat template, or ids.

        The template sees `tools` (OpenAI's form) and further `variables` (`enable_thinking`, say).
        """
        if isinstance(prompt, str):
            return self.tokenizer.encode(prompt)
        if _is_messages(prompt):
            messages = template_messages(prompt)
            text = self.chat_template.render(messages, tools=tools, variables=variables)
            return self.tokenizer.encode(text, add_special_tokens=False)
        ids: list[int] = checked_ids(cast(Ids, prompt), self.vocab).tolist()
        return ids

    @cached_property
    def conversations(self) -> Conversations:
        """Its conversations by name: create, switch, fork, rename, remove, restore."""
        from hearth.runtime.contexts.conversations import Conversations

        return Conversations(self)

    def conversation(self, name: str, system: str | None = None) -> Conversation:
        """The conversation of this name, made with the system message where there is none of it yet."""
        return self.conversations.open(name, system)

    def restore(self, path: str | os.PathLike[str]) -> Conversation:
        """The conversation that `Conversation.save` wrote, in the place of the one of its name if there is one.

        ArchiveError `context.*` for another archive or adapter, another version, a damaged file; then
        nothing has changed.
        """
        return self.conversations.restore(path)

    def request(self, **asked: Unpack[Asked]) -> Request:
        """What `generate` makes of its wishes: over the archive's defaults, with a seed where none was asked for."""
        return self.defaults.request(wishes(asked), secrets.randbits(64))

    def generate(
        self,
        prompt: Prompt,
        *,
        session: Session[native.State] | None = None,
        constraint: Constraint | None = None,
        format: GrammarWish | None = None,
        pieces: Literal["text", "ids"] = "text",
        decode: Decode | None = None,
        draft: Draft | None = None,
        clock: Clock = time.perf_counter,
        **asked: Unpack[Asked],
    ) -> Generation:
        """An iterator of text pieces that continue the prompt; it also holds tokens, stats and the reason it ended.

        What is not asked for follows the archive (defaults.py): greedy unless it or an argument asks for
        sampling; without `max_tokens` it ends at a full context. Without a seed every call draws another
        one. A `session` given is continued: the prompt comes after its tokens. A `constraint` is of this
        text alone, and says which tokens may come next; a `format` (JSON, a schema, ... of
        `hearth.runtime.grammar`) makes one. `decode` turns ids into text in the tokenizer's place.
        A `draft` ("lookup", a smaller model of the same tokenizer) guesses tokens that are verified in one run: the
        same text, sooner where it is often right.
        """
        began = clock()
        task = self._task(prompt, constraint, format, decode or self._decode(pieces), asked)
        session = session or self.session()
        if task.request.full is Full.SLIDE:
            checked_ids(task.prompt, self.vocab)
        else:
            session.checked(task.prompt)
        speaker: Speaker = session
        acceptance = Acceptance()
        if draft is not None:
            speaker = Drafted(session, drafter_of(draft, self), acceptance)
        return Generation(
            speaker,
            task.prompt,
            task.request,
            task.decode,
            constraint=task.constraint,
            acceptance=acceptance,
            clock=clock,
            encode_s=clock() - began,
        )

    def complete(
        self,
        prompt: Prompt,
        n: int = 1,
        *,
        constraint: Constraint | None = None,
        format: GrammarWish | None = None,
        pieces: Literal["text", "ids"] = "text",
        **asked: Unpack[Asked],
    ) -> list[Completion]:
        """n texts that continue the prompt, each with a seed of its own (`completion_seed`), written together.

        The first is what `generate` gives with the seed. A constraint is copied for each.
        """
        task = self._task(prompt, constraint, format, self._decode(pieces), asked)
        return complete(self.session(), task, n)

    def beam_search(
        self,
        prompt: Prompt,
        wanted: BeamSearch = FOUR_BEAMS,
        count: int = 1,
        *,
        constraint: Constraint | None = None,
        format: GrammarWish | None = None,
        pieces: Literal["text", "ids"] = "text",
        **asked: Unpack[Asked],
    ) -> list[Completion]:
        """The `count` best texts that a search finds, best first, as transformers searches (sampling/beams.py).

        Of what is asked for, the limit of tokens, stop strings, biases, bans and penalties count. UsageError
        `arguments.beams` for more texts than beams.
        """
        task = self._task(prompt, constraint, format, self._decode(pieces), asked)
        return best(self.session(), task, wanted, count)

    def vectors(
        self, adapter: AdapterUse | None = None, chunk: int | None = None
    ) -> DecoderVectors:
        """What makes vectors of texts, with the adapter or what `use_adapter` has said last.

        `chunk` bounds the tokens of one step, and changes no result. UsageError `arguments.pooling` where the archive
        was compiled without a pooling.
        """
        from hearth.runtime.decoder_vectors import DecoderVectors

        return DecoderVectors(self, adapter or self.default.adapter, chunk)

    def embed(
        self, texts: str | Sequence[Text], prompt_name: str | None = None
    ) -> NDArray[np.float32]:
        """f32[n, E]: `vectors().embed(texts, prompt_name)`."""
        return self.vectors().embed(texts, prompt_name)

    def _task(
        self,
        prompt: Prompt,
        constraint: Constraint | None,
        format: GrammarWish | None,
        decode: Decode,
        asked: Asked,
    ) -> Task:
        if format is not None:
            constraint = self.grammars.constraint(format)
        request = self.request(**asked)
        return Task(self.encode(prompt), request, decode, constraint)

    def _decode(self, pieces: Literal["text", "ids"]) -> Decode:
        return self.tokenizer.decode if pieces == "text" else spell_ids


def _is_messages(prompt: Messages | Ids) -> TypeGuard[Messages]:
    return len(prompt) > 0 and isinstance(prompt[0], Mapping)
