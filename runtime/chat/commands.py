"""What can be commanded in a chat: a table of names, what they take, what they do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hearth.runtime.chat.showing import stats_text
from hearth.runtime.chat.talking import Chat, Leave
from hearth.schemas.errors import ResourceError, UsageError

if TYPE_CHECKING:
    from hearth.runtime.contexts.conversation import Conversation


@dataclass(frozen=True)
class Known:
    """A command: its names, its argument (in brackets where it may be left out), its help, its function."""

    names: tuple[str, ...]
    argument: str
    help: str
    run: Callable[[Chat, str], None]


def run(chat: Chat, line: str) -> None:
    """The command of a line such as "/rewind 2"; UsageError `chat.command` where there is none or a word lacks."""
    name, _, argument = line.removeprefix("/").partition(" ")
    known = next((each for each in COMMANDS if name in each.names), None)
    if known is None:
        raise UsageError(
            "chat.command",
            f"there is no command /{name}",
            expected="one that /help lists",
            remedy="// begins a message with a slash",
        )
    argument = argument.strip()
    if not argument and known.argument and not known.argument.startswith("["):
        raise UsageError("chat.command", f"/{name} alone", expected=f"/{name} {known.argument}")
    known.run(chat, argument)


def _help(chat: Chat, _: str) -> None:
    heads = [
        " ".join((*(f"/{name}" for name in each.names), each.argument)).strip() for each in COMMANDS
    ]
    width = max(map(len, heads))
    lines = [f"{head:{width}}  {each.help}" for head, each in zip(heads, COMMANDS, strict=True)]
    lines.append(
        'A line that ends with \\ goes on; """ begins and ends several lines; Ctrl-C stops an answer.'
    )
    chat.shown.note("/help", "\n".join(lines), commands=[each.names[0] for each in COMMANDS])


def _save(chat: Chat, path: str) -> None:
    chat.conversation.save(_path(path))
    chat.shown.note("/save", f"saved in {path}", file=path)


def _load(chat: Chat, path: str) -> None:
    made = chat.model.restore(_path(path))
    chat.shown.note("/load", _summary(made), conversation=made.name, messages=len(made.messages))


def _export(chat: Chat, path: str) -> None:
    text = chat.conversation.export()
    if not path:
        chat.shown.note("/export", text.rstrip("\n"), export=text)
        return
    try:
        _path(path).write_text(text, "utf-8")
    except OSError as error:
        raise ResourceError(
            "resource.unwritable",
            f"{path} cannot be written: {error.strerror}",
            remedy="choose another place, or make its folder and allow writing to it",
        ) from None
    chat.shown.note("/export", f"written to {path}", file=path)


def _adapter(chat: Chat, argument: str) -> None:
    name, _, scale = argument.partition(" ")
    if name:
        chat.conversation.use_adapter(None if name in NO_ADAPTER else name, _number(scale, 1.0))
    use = chat.conversation.adapter
    known = list(chat.model.adapters)
    now = "no adapter" if use is None else f"the adapter {use.name} at {use.scale:g}"
    has = f"; the archive has {', '.join(known)}" if known else "; the archive has none"
    facts = {"adapter": use and use.name, "scale": use and use.scale, "known": known}
    chat.shown.note("/adapter", now + ("" if name else has), **facts)


def _clear(chat: Chat, _: str) -> None:
    chat.conversation.clear()
    chat.shown.note("/clear", "forgotten, but for the system message")


def _system(chat: Chat, text: str) -> None:
    old = chat.conversation
    if not text:
        said = old.system if old.system is not None else "no system message"
        chat.shown.note("/system", said, system=old.system)
        return
    adapter = old.adapter
    chat.model.conversations.remove(old.name)
    new = chat.model.conversations.create(old.name, text)
    if adapter is not None:
        new.use_adapter(adapter.name, adapter.scale)
    chat.shown.note("/system", "a new system message; what was said is forgotten", system=text)


def _rewind(chat: Chat, turns: str) -> None:
    chat.conversation.rewind(int(_number(turns, 1)))
    said = _last_words(chat.conversation)
    chat.shown.note("/rewind", said, messages=len(chat.conversation.messages))


def _resume(chat: Chat, _: str) -> None:
    chat.answer(chat.conversation.resume)


def _new(chat: Chat, argument: str) -> None:
    name, _, system = argument.partition(" ")
    made = chat.model.conversations.create(name, system.strip() or None)
    chat.shown.note("/new", f"{made.name} begins", conversation=made.name)


def _fork(chat: Chat, name: str) -> None:
    made = chat.model.conversations.fork(chat.conversation.name, name)
    chat.shown.note("/fork", f"{made.name} goes on from here", conversation=made.name)


def _rename(chat: Chat, name: str) -> None:
    chat.model.conversations.rename(chat.conversation.name, name)
    chat.shown.note("/rename", f"this is {name} now", conversation=name)


def _switch(chat: Chat, name: str) -> None:
    made = chat.model.conversations.switch(name)
    chat.shown.note("/switch", _summary(made), conversation=name, messages=len(made.messages))


def _list(chat: Chat, _: str) -> None:
    known = chat.model.conversations.values()
    current = chat.conversation.name
    lines = [f"{'*' if each.name == current else ' '} {_summary(each)}" for each in known]
    names = [each.name for each in known]
    chat.shown.note("/list", "\n".join(lines), conversations=names, current=current)


def _stats(chat: Chat, _: str) -> None:
    held, context = len(chat.conversation.tokens), chat.model.context
    lines = [f"{held} of {context} tokens of the context are in use"]
    if chat.last is not None:
        lines.append(stats_text(chat.last))
    chat.shown.note("/stats", "\n".join(lines), tokens=held, context=context)


def _bye(chat: Chat, _: str) -> None:
    raise Leave


def _summary(conversation: Conversation) -> str:
    return f"{conversation.name}: {len(conversation.messages)} messages{_last_words(conversation, ', the last: ')}"


def _last_words(conversation: Conversation, before: str = "the last message: ") -> str:
    """The beginning of the last message."""
    from hearth.runtime.text.messages import content

    if not conversation.messages:
        return "" if before.startswith(",") else "nothing is left"
    last = conversation.messages[-1]
    text = " ".join(content(last).split())
    return f"{before}{last['role']}: {text[:60]}{'...' if len(text) > 60 else ''}"


def _path(text: str) -> Path:
    return Path(text).expanduser()


def _number(text: str, default: float) -> float:
    try:
        return float(text) if text.strip() else default
    except ValueError:
        raise UsageError("chat.command", f"{text!r} is no number", expected="a number") from None


NO_ADAPTER = ("off", "none")
COMMANDS: tuple[Known, ...] = (
    Known(("help", "?"), "", "this list", _help),
    Known(
        ("save",),
        "FILE",
        "write the conversation to a file, with all that it takes to go on",
        _save,
    ),
    Known(("load",), "FILE", "go on with a conversation that was saved", _load),
    Known(("export",), "[FILE]", "the conversation as text", _export),
    Known(
        ("adapter",),
        "[NAME [SCALE]]",
        "answer with an adapter of the archive; off: with none",
        _adapter,
    ),
    Known(("clear",), "", "forget everything but the system message", _clear),
    Known(
        ("system",),
        "[TEXT]",
        "begin again with this system message; without a text: show it",
        _system,
    ),
    Known(("rewind",), "[TURNS]", "forget the last message and its answer, or several", _rewind),
    Known(("resume",), "", "go on with an answer that was stopped", _resume),
    Known(("new",), "NAME [SYSTEM]", "begin another conversation", _new),
    Known(("fork",), "NAME", "another conversation that goes on from here", _fork),
    Known(("rename",), "NAME", "give this conversation another name", _rename),
    Known(("list",), "", "all conversations", _list),
    Known(("switch",), "NAME", "go on with another conversation", _switch),
    Known(("stats",), "", "room in the context, times of the last answer", _stats),
    Known(("bye", "quit", "exit"), "", "leave (or Ctrl-D)", _bye),
)
