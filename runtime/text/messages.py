"""Messages of a conversation, as OpenAI's API has them: their texts, their turns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hearth.runtime.text.chat_template import plain_messages

Message = Mapping[str, Any]
Messages = Sequence[Message]


def sent_messages(given: str | Message | Messages) -> tuple[Message, ...]:
    """What was given to be sent: a user's text, a message, or several."""
    if isinstance(given, str):
        return ({"role": "user", "content": given},)
    return (given,) if isinstance(given, Mapping) else tuple(given)


def checked(messages: Messages) -> Messages:
    """InputError `input.messages` where a message has no role, or there is none."""
    plain_messages(messages)
    return messages


def content(message: Message) -> str:
    """The text of a message, of whose parts only texts count."""
    found = message.get("content") or ""
    if isinstance(found, str):
        return found
    return "".join(str(part["text"]) for part in found if "text" in part)


def turn_starts(messages: Messages) -> list[int]:
    """Where users' messages begin that follow something else."""
    users = [each["role"] == "user" for each in messages]
    return [i for i, user in enumerate(users) if user and not (i and users[i - 1])]


def leading(messages: Messages) -> int:
    """How many messages are the system's, at the beginning."""
    return int(bool(messages) and messages[0]["role"] == "system")
