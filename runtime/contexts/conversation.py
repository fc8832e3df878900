"""A conversation: named, with its messages, an adapter, and a session that holds what of them has been read.

An answer depends on the messages, the tools, the adapter and what is asked for alone: what the session holds
already is used where it begins as the messages do, and read again where it does not.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Unpack

from hearth.runtime.adapters import AdapterUse
from hearth.runtime.contexts.reply import Form, Paused, Reply, Tools, form_of
from hearth.runtime.contexts.saved import Context, Talk, save_context
from hearth.runtime.generation.defaults import Asked
from hearth.runtime.generation.generate import Generation, Speaker
from hearth.runtime.generation.sliding import fitted, seen
from hearth.runtime.generation.writing import Full, Writer
from hearth.runtime.sampling import Constraint
from hearth.runtime.session import check_room
from hearth.runtime.speculative.choice import Draft, drafter_of
from hearth.runtime.speculative.drafted import Acceptance, Drafted
from hearth.runtime.text.messages import (
    Message,
    Messages,
    checked,
    content,
    leading,
    sent_messages,
    turn_starts,
)
from hearth.schemas.errors import ResourceError, UsageError

if TYPE_CHECKING:
    from hearth.runtime.grammar import GrammarWish
    from hearth.runtime.model import Model


class Conversation:
    """One of a model's conversations (`model.conversation(name)`); one thread at a time.

    `send` gives the answer piece by piece. What is done next ends an answer that is still being written.
    """

    def __init__(self, model: Model, name: str, messages: Messages = ()) -> None:
        self.name = name
        self._model, self._session = model, model.session()
        self._messages = tuple(messages)
        self._tools: tuple[Mapping[str, Any], ...] | None = None
        self._reply: Reply | Paused | None = None

    @property
    def messages(self) -> tuple[Message, ...]:
        """All messages, an answer that is being written among them."""
        return self._messages + (() if self._reply is None else self._reply.messages)

    @property
    def system(self) -> str | None:
        """The text of the system message, where there is one."""
        first = [each for each in self._messages[:1] if each["role"] == "system"]
        return content(first[0]) if first else None

    @property
    def last(self) -> str | None:
        """The text of the last answer."""
        answers = [each for each in self.messages if each["role"] == "assistant"]
        return content(answers[-1]) if answers else None

    @property
    def tokens(self) -> tuple[int, ...]:
        """The ids that the session holds now."""
        return self._session.tokens

    @property
    def adapter(self) -> AdapterUse | None:
        """What answers are written with."""
        return self._session.adapter

    def use_adapter(self, name: str | None, scale: float = 1.0) -> None:
        """Write the next answers with this adapter, None: with none, as if it had been so from the start.

        UsageError `arguments.adapter` for a name that the archive does not have; then nothing changes.
        """
        self._session.use_adapter(name, scale)
        self._settle()

    def send(
        self,
        message: str | Message | Messages,
        *,
        tools: Tools | None = None,
        constraint: Constraint | None = None,
        format: GrammarWish | None = None,
        draft: Draft | None = None,
        **asked: Unpack[Asked],
    ) -> Reply:
        """The answer to a user's text, or to messages (results of tools, say), as an iterator of pieces.

        `tools` are told to the model from now on; an answer that calls them is read back as a message with
        `tool_calls`. What is refused (messages that the template refuses or the context does not hold) changes
        nothing; `full` says what happens where the context is full. The rest is as of `Model.generate`.
        """
        self._settle()
        model, sent = self._model, sent_messages(message)
        known = self._tools if tools is None else tuple(tools)
        ids = model.encode(checked((*self._messages, *sent)), tools=known or None)
        request = model.request(**asked)
        if format is not None:
            constraint = model.grammars.constraint(format)
        if request.full is not Full.SLIDE:
            check_room(0, len(ids), model.context)
        form = form_of(model, known)
        writer = Writer(request, ids, form.decode, constraint=constraint)
        held = fitted(ids, model.context, request.full)
        reply = self._begin(sent, form, writer, held, draft)
        self._tools = known
        return reply

    def resume(self, *, constraint: Constraint | None = None, draft: Draft | None = None) -> Reply:
        """Go on with an answer that was left or cancelled, also one of another process (`model.restore`).

        Its text is what it would have been. An answer that had a constraint needs a fresh one. UsageError
        `arguments.resume` where there is no such answer, or no constraint.
        """
        text = None if self._reply is None else self._reply.unfinished
        if self._reply is None or text is None:
            raise _no_resume("no answer was left unfinished", "one to go on with")
        if text.constrained and constraint is None:
            raise _no_resume("the answer had a constraint", "a fresh one like it")
        model, state, full = self._model, text.chooser, text.request.full
        sent, form = self._reply.sent, self._reply.form
        writer = Writer.restored(text.request, state, form.decode, constraint=constraint)
        prompt, answer = state.tokens[: state.prompt], state.tokens[state.prompt :]
        return self._begin(sent, form, writer, seen(prompt, answer, model.context, full), draft)

    def rewind(self, turns: int = 1) -> None:
        """Forget the last turns: the user's messages and what follows them.

        UsageError `arguments.turns` where there are not so many.
        """
        starts = turn_starts(self.messages)
        if not 1 <= turns <= len(starts):
            raise UsageError(
                "arguments.turns",
                f"cannot go back {turns} turns",
                expected=f"1 to {len(starts)}" if starts else "a turn to forget; there is none",
            )
        self._settle()
        self._messages = self._messages[: starts[-turns]]

    def clear(self) -> None:
        """Forget everything but the system message."""
        self._settle()
        self._tools = None
        self._messages = self._messages[: leading(self._messages)]
        self._session.rewind(0)

    def export(self) -> str:
        """The conversation as text: each message under the name of its role."""
        return "\n\n".join(f"{each['role']}: {content(each)}" for each in self.messages) + "\n"

    def fork(self, name: str) -> Conversation:
        """Another conversation that goes on from here (`model.conversations.fork` lists it)."""
        other = Conversation(self._model, name, self.messages)
        other._session, other._tools = self._session.fork(), self._tools
        return other

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write it to a file with all that it takes to go on (saved.py), an unfinished answer too.

        ResourceError `resource.disk_full`, `resource.unwritable`; what stood there before then stays.
        """
        text = None if self._reply is None else self._reply.unfinished
        if self._reply is not None and text is not None:
            messages = (*self._messages, *self._reply.sent)
        else:
            messages = self.messages
        save_context(path, self._session, text, Talk(self.name, messages, self._tools))

    def restore(self, context: Context) -> None:
        """Become what was saved, but for the name; all of it or, where that fails, nothing."""
        talk, session = context.talk, context.session(self._model)
        if talk is None:
            raise not_a_conversation()
        paused = None
        messages = talk.messages
        if context.text is not None:
            text, form = context.text, form_of(self._model, talk.tools)
            written = Writer.restored(text.request, text.chooser, form.decode).text
            answers = [i for i, each in enumerate(messages, 1) if each["role"] == "assistant"]
            start = answers[-1] if answers else leading(messages)
            paused = Paused(messages[start:], form, text, written)
            messages = messages[:start]
        self._session, self._messages = session, messages
        self._tools, self._reply = talk.tools, paused

    def _begin(
        self, sent: Messages, form: Form, writer: Writer, ids: Sequence[int], draft: Draft | None
    ) -> Reply:
        """The answer after these ids, of which the session and the prefix cache may have some."""
        session, model = self._session, self._model
        drafter = None if draft is None else drafter_of(draft, model)
        cached = model.prefixes.fill(session, ids)
        speaker: Speaker = session
        acceptance = Acceptance()
        if drafter is not None:
            speaker = Drafted(session, drafter, acceptance)
        first = not any(each["role"] == "assistant" for each in self._messages)

        def read() -> None:  # what is likely to be shared: a system prompt, the first question
            if first:
                with suppress(ResourceError):  # no memory for it: then nothing is kept
                    model.prefixes.keep(session, len(ids))

        generation = Generation(
            speaker, ids[cached:], writer.request, form.decode, acceptance=acceptance, writer=writer
        )
        self._reply = Reply(sent, form, generation, cached, read)
        return self._reply

    def _settle(self) -> None:
        """An answer becomes one of the messages, as far as it was written."""
        if isinstance(self._reply, Reply):
            self._reply.cancel()
        self._messages, self._reply = self.messages, None


def not_a_conversation() -> UsageError:
    """Of a context that was saved without messages."""
    return UsageError(
        "arguments.context",
        "a session was saved here, no conversation",
        expected="a file that a conversation wrote",
        remedy="load_context(path, model).session(model) goes on with it",
    )


def _no_resume(found: str, expected: str) -> UsageError:
    return UsageError("arguments.resume", found, expected=expected, remedy="or send a message")
