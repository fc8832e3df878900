"""A loaded model: one mapping of the weights, one engine, any number of sessions."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, TypeGuard, Unpack, cast

import numpy as np
from numpy.typing import NDArray

from hearth.runtime import native
from hearth.runtime.adapters import Adapter, AdapterUse, check_known
from hearth.runtime.beam_text import BeamText
from hearth.runtime.binding import new_state, row_limit, run_entry, run_segments
from hearth.runtime.defaults import Asked, Defaults, read_defaults, wishes
from hearth.runtime.detokenizer import spell_ids
from hearth.runtime.generate import Clock, Generation, Speaker
from hearth.runtime.loaded import Loaded
from hearth.runtime.lora.each_once import EachOnce
from hearth.runtime.lora.stored import StoredAdapter, bind_adapter, stored_adapters
from hearth.runtime.prefix_cache import PrefixCache
from hearth.runtime.sampling import Beams, BeamSearch, Constraint, completion_seed
from hearth.runtime.session import Ids, Logits, Segment, Session, check_room, checked_ids
from hearth.runtime.several import Completion, complete, search, told
from hearth.runtime.snapshot import Snapshot
from hearth.runtime.speculative.choice import Draft, drafter_of
from hearth.runtime.speculative.drafted import Acceptance, Drafted
from hearth.runtime.tools.messages import template_messages
from hearth.runtime.writing import Decode, Full, Request, Writer
from hearth.schemas import sections
from hearth.schemas.errors import UsageError
from hearth.schemas.kv_layout import KVLayout
from hearth.schemas.program import Rows

if TYPE_CHECKING:
    from hearth.runtime.chat_template import ChatTemplate
    from hearth.runtime.conversation import Conversation
    from hearth.runtime.conversations import Conversations
    from hearth.runtime.decoder_vectors import DecoderVectors
    from hearth.runtime.encoder import Text
    from hearth.runtime.grammar import Grammars, GrammarWish

FOUR_BEAMS = BeamSearch()
PREFIX_NBYTES = 256 << 20  # of a model's own prefix cache

Messages = Sequence[Mapping[str, Any]]
Prompt = str | Messages | Ids


@dataclass
class Default:
    """What new sessions of a model use."""

    adapter: AdapterUse | None = None


@dataclass(frozen=True, eq=False)
class Model(Loaded):
    """Made by `load`. Sessions may be used from several threads; the engine runs one call at a time."""

    default: Default = field(default_factory=Default)

    @property
    def vocab(self) -> int:
        """V, the number of logits."""
        dims = self.manifest.dims
        assert dims is not None  # consistency.py: a decoder has them
        return dims.vocab

    @property
    def chunk(self) -> int:
        """Tokens one prefill step takes."""
        return self.manifest.chunk

    @property
    def logit_rows(self) -> int:
        """Rows of logits that one run gives at most."""
        return max(row_limit(self.archive.program.entries["prefill"], Rows.R), 1)

    @property
    def segments(self) -> int:
        """Sessions that one run takes at most."""
        return native.MAX_SEGMENTS

    @cached_property
    def chat_template(self) -> ChatTemplate:
        """Parsed on first use."""
        from hearth.runtime.chat_template import ChatTemplate

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
    def prefixes(self) -> PrefixCache:
        """Keys and values of prompts that were read before; `prefixes.nbytes` may be set."""
        return PrefixCache(PREFIX_NBYTES, self.pinned)

    @property
    def pinned(self) -> tuple[Snapshot, ...]:
        """What each prefix cache of the model begins with."""
        return () if self.prompt is None else (self.prompt,)

    @cached_property
    def prompt(self) -> Snapshot | None:
        """The prompt that was compiled into the archive (`hearth compile --prompt-cache`)."""
        from hearth.runtime.prompt import read_prompt

        return read_prompt(self)

    @cached_property
    def conversations(self) -> Conversations:
        """Its conversations by name: create, switch, fork, rename, remove, restore."""
        from hearth.runtime.conversations import Conversations

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
        if format is not None:
            constraint = self.grammars.constraint(format)
        request = self.request(**asked)
        decode = decode or self._decode(pieces)
        ids = self.encode(prompt)
        session = session or self.session()
        count = len(checked_ids(ids, self.vocab))
        if request.full is not Full.SLIDE:
            check_room(session.position, count, self.context)
        speaker: Speaker = session
        acceptance = Acceptance()
        if draft is not None:
            speaker = Drafted(session, drafter_of(draft, self), acceptance)
        return Generation(
            speaker,
            ids,
            request,
            decode,
            constraint=constraint,
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
        if n < 1:
            raise UsageError("arguments.n", f"{n} completions", expected="at least 1")
        if format is not None:
            constraint = self.grammars.constraint(format)
        request, decode, ids = self.request(**asked), self._decode(pieces), self.encode(prompt)
        seeds = [completion_seed(request.sampling.seed, index) for index in range(n)]
        writers = [
            Writer(
                replace(request, sampling=replace(request.sampling, seed=seed)),
                ids,
                decode,
                constraint=constraint and constraint.copy(),
            )
            for seed in seeds
        ]
        return complete(self.session(), ids, writers)

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
        if not 1 <= count <= wanted.width:
            raise UsageError(
                "arguments.beams",
                f"{count} texts of {wanted.width} beams",
                expected="at most as many texts as beams",
            )
        if format is not None:
            constraint = self.grammars.constraint(format)
        request, ids, decode = self.request(**asked), self.encode(prompt), self._decode(pieces)
        check_room(0, len(checked_ids(ids, self.vocab)), self.context)
        room = self.context - len(ids) + 1  # the last token is not read
        limit = min(request.max_tokens or room, room)
        begin = BeamText.begin(request, ids, decode, constraint)
        beams = Beams(wanted, request.sampling, tuple(ids), request.stop_ids, limit, begin)
        search(self.session(), ids, beams)
        return [told(each, ids, request, decode) for each in beams.hypotheses(count)]

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

    def _decode(self, pieces: Literal["text", "ids"]) -> Decode:
        return self.tokenizer.decode if pieces == "text" else spell_ids

    @cached_property
    def adapters(self) -> Mapping[str, Adapter]:
        """The adapters of the archive by name (`hearth lora add`), each read when it is asked for.

        Then ArchiveError archive.adapter for a damaged one.
        """
        stored = self._stored_adapters
        return EachOnce(stored, lambda name: stored[name].adapter)

    @cached_property
    def _stored_adapters(self) -> Mapping[str, StoredAdapter]:
        return stored_adapters(self.archive)

    @cached_property
    def _bound_adapters(self) -> Mapping[str, native.Adapter]:
        """Ready to run; an adapter is bound when it is first used."""
        stored = self._stored_adapters
        return EachOnce(stored, lambda name: bind_adapter(self.archive, self.engine, stored[name]))

    def _bound(self, use: AdapterUse | None) -> tuple[native.Adapter | None, float]:
        """What a run takes."""
        return (None, 1.0) if use is None else (self._bound_adapters[use.name], use.scale)

    def bind_adapter(self, use: AdapterUse | None) -> None:
        """Make an adapter ready, which its first run would do: some milliseconds, and what is wrong with it is said.

        UsageError `arguments.adapter` for a name that the archive does not have, ArchiveError archive.adapter for a
        damaged one.
        """
        check_known(use, self.adapters)
        self._bound(use)

    def use_adapter(self, name: str | None, scale: float = 1.0) -> None:
        """What sessions made from now on use unless told otherwise; None: no adapter.

        UsageError `arguments.adapter` for a name that the archive does not have.
        """
        use = None if name is None else AdapterUse(name, scale)
        check_known(use, self.adapters)
        self.default.adapter = use

    def session(
        self, chunk: int | None = None, adapter: AdapterUse | None = None
    ) -> Session[native.State]:
        """A fresh session; `chunk` bounds the tokens of one prefill step (and changes no result).

        It uses `adapter`, or what `use_adapter` has said last; `session.use_adapter(None)` for none.
        """
        return Session(self, chunk, adapter or self.default.adapter)

    @property
    def fingerprint(self) -> str:
        """Of all that decides the results: snapshots and saved contexts are of archives with this one."""
        return self.archive.fingerprint

    @property
    def kv_layout(self) -> KVLayout:
        """Where keys and values lie in a state."""
        return self.archive.kv_layout

    def new_state(self) -> native.State:
        """A zeroed KV region. Its pages take memory as positions are written."""
        return new_state(self.archive)

    def region(self, state: native.State) -> NDArray[np.uint8]:
        """The memory of a state, u8[kv_nbytes]; not to be touched while a run reads or writes it."""
        return state.array()

    def run(
        self,
        state: native.State,
        entry: str,
        tokens: NDArray[np.int32],
        position: int,
        logits: Logits,
        adapter: AdapterUse | None = None,
    ) -> None:
        """Run an entry; `Session` keeps the position and checks the ids."""
        number = self.entry_numbers[entry]
        place, used = (len(tokens), position), self._bound(adapter)
        run_entry(self.archive, self.engine, number, state, place, [tokens], [logits], used)

    def run_segments(
        self,
        segments: Sequence[Segment[native.State]],
        tokens: NDArray[np.int32],
        rows: Logits,
        entry: str = "prefill",
    ) -> None:
        """Run an entry on rows of several states, for the last rows of each; the caller keeps positions, checks ids."""
        number = self.entry_numbers[entry]
        given = [(*each[:4], *self._bound(each.adapter)) for each in segments]
        run_segments(self.archive, self.engine, number, given, [tokens], [rows])


def _is_messages(prompt: Messages | Ids) -> TypeGuard[Messages]:
    return len(prompt) > 0 and isinstance(prompt[0], Mapping)
