"""The conversations of a model by name: created, listed, switched, forked, renamed, restored."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from hearth.runtime.contexts.conversation import Conversation, not_a_conversation
from hearth.runtime.contexts.saved import load_context
from hearth.schemas.errors import UsageError

if TYPE_CHECKING:
    from hearth.runtime.model import Model


class Conversations(Mapping[str, Conversation]):
    """In the order in which they were created. All are over one copy of the weights."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._known: dict[str, Conversation] = {}
        self._current: str | None = None

    def __getitem__(self, name: str) -> Conversation:
        """UsageError `arguments.conversation` for a name that is not there."""
        if name not in self._known:
            raise UsageError(
                "arguments.conversation",
                f"there is no conversation {name!r}",
                expected=", ".join(self._known) or "one that was created; there is none",
            )
        return self._known[name]

    def __contains__(self, name: object) -> bool:
        return name in self._known

    def __iter__(self) -> Iterator[str]:
        return iter(self._known)

    def __len__(self) -> int:
        return len(self._known)

    @property
    def current(self) -> Conversation | None:
        """The one created, restored or switched to last."""
        return None if self._current is None else self._known[self._current]

    def create(self, name: str, system: str | None = None) -> Conversation:
        """A new one, of a system message or of nothing. UsageError where the name is taken."""
        messages = () if system is None else ({"role": "system", "content": system},)
        return self._add(Conversation(self._model, self._new(name), messages))

    def open(self, name: str, system: str | None = None) -> Conversation:
        """The one of this name, or a new one. UsageError where it is there with another system message."""
        if name not in self._known:
            return self.create(name, system)
        found = self.switch(name)
        if system is not None and system != found.system:
            raise UsageError(
                "arguments.conversation",
                f"the conversation {name!r} has another system message",
                expected=f"{found.system!r:.80}, or none given",
                remedy="choose another name, or remove the conversation first",
            )
        return found

    def switch(self, name: str) -> Conversation:
        """Make it the current one."""
        found, self._current = self[name], name
        return found

    def rename(self, name: str, to: str) -> None:
        """Give it another name; it keeps its place."""
        found = self[name]
        if to != name:
            found.name = self._new(to)
            self._known = {each.name: each for each in self._known.values()}
            self._current = to if self._current == name else self._current

    def fork(self, name: str, to: str) -> Conversation:
        """A copy under another name that goes its own way from here."""
        return self._add(self[name].fork(self._new(to)))

    def remove(self, name: str) -> None:
        """Forget it, with its keys and values."""
        del self._known[self[name].name]
        self._current = None if self._current == name else self._current

    def restore(self, path: str | os.PathLike[str], name: str | None = None) -> Conversation:
        """The conversation of a file, under the name that it had or another; the one of that name becomes it.

        ArchiveError `context.*` where it cannot be (saved.py); then nothing has changed.
        """
        context = load_context(path, self._model)
        if context.talk is None:
            raise not_a_conversation()
        name = context.talk.name if name is None else name
        if name in self._known:
            self._known[name].restore(context)
            return self.switch(name)
        made = Conversation(self._model, self._new(name))
        made.restore(context)
        return self._add(made)

    def _new(self, name: str) -> str:
        if not name or name in self._known:
            found = f"there is a conversation {name!r}" if name else "an empty name"
            raise UsageError(
                "arguments.conversation", found, expected="a name that no other conversation has"
            )
        return name

    def _add(self, made: Conversation) -> Conversation:
        self._known[made.name] = made
        self._current = made.name
        return made
