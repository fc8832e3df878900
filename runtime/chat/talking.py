"""The loop of a chat: a message or a command at a time; Ctrl-C stops an answer, Ctrl-D leaves."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import TYPE_CHECKING

from hearth.runtime.chat.reading import ReadLine, read_message
from hearth.runtime.chat.showing import Shown
from hearth.schemas.errors import HearthError

if TYPE_CHECKING:
    from hearth.runtime.contexts.conversation import Conversation
    from hearth.runtime.contexts.reply import Reply
    from hearth.runtime.generation.defaults import Asked
    from hearth.runtime.model import Model

Command = Callable[["Chat", str], None]
SLASH = "/"


class Leave(Exception):
    """Said by a command that ends the chat."""


@dataclass
class Chat:
    """The model, how answers are asked for, and where they go. The conversation is the model's current one."""

    model: Model
    asked: Asked
    shown: Shown
    last: Reply | None = field(default=None)

    @property
    def conversation(self) -> Conversation:
        """The one that is being held."""
        current = self.model.conversations.current
        assert current is not None  # one is opened before the loop, and no command leaves none
        return current

    def answer(self, start: Callable[[], Reply]) -> None:
        """Print an answer as it is written; Ctrl-C ends it and keeps what there is."""
        reply = self.last = start()
        with _interrupts(reply.cancel):
            for piece in reply:
                self.shown.piece(piece)
        self.shown.answer(reply)


def talk(chat: Chat, read: ReadLine, run: Command) -> None:
    """Until the end of input, or a command that leaves. What fails is said, and the chat goes on."""
    while True:
        try:
            message = read_message(read)
            if message.startswith(SLASH) and not message.startswith(SLASH * 2):
                run(chat, message)
            elif message.strip():
                text = message.removeprefix(SLASH) if message.startswith(SLASH) else message
                chat.answer(lambda text=text: chat.conversation.send(text, **chat.asked))  # type: ignore[misc]
        except (EOFError, Leave):
            return
        except HearthError as error:
            chat.shown.error(error)
        except KeyboardInterrupt:
            chat.shown.note("interrupt", "\n(Ctrl-D or /bye leaves)")


@contextmanager
def _interrupts(cancel: Callable[[], None]) -> Iterator[None]:
    """The first Ctrl-C cancels; a second one interrupts, should the first have no effect."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGINT)

    def stop(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, before)
        cancel()

    signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
