"""`hearth chat`: conversations with a model in the terminal."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hearth.runtime.commands.arguments import read_full
from hearth.runtime.commands.common_options import (
    IsaOption,
    PlacingOptions,
    SamplingOptions,
    ThreadsOption,
)
from hearth.runtime.commands.groups import spread
from hearth.runtime.options import read_options
from hearth.runtime.progress import choose

NAME = "chat"  # of the conversation that a chat begins with
HISTORY = Path("~/.local/state/hearth/chat_history")


@spread
def chat_command(
    file: Annotated[Path, typer.Argument(help="the .har file")],
    *,
    system: Annotated[str | None, typer.Option(help="a system message")] = None,
    load: Annotated[
        Path | None, typer.Option(help="go on with a conversation that /save wrote")
    ] = None,
    adapter: Annotated[
        str | None, typer.Option(help="answer with this adapter of the archive")
    ] = None,
    sampling: SamplingOptions,
    full: Annotated[
        str, typer.Option(help="at the end of the context: slide (forget the oldest), stop, error")
    ] = "slide",
    history: Annotated[
        Path, typer.Option(help="where lines typed are kept for the next chat")
    ] = HISTORY,
    stats: Annotated[bool, typer.Option("--stats", help="say what each answer took")] = False,
    threads: ThreadsOption = None,
    isa: IsaOption = None,
    placing: PlacingOptions,
    as_json: Annotated[
        bool, typer.Option("--json", help="print an object for each answer and command")
    ] = False,
) -> None:
    """Talk with a model: messages and /commands from the terminal, or a line each from standard input."""
    from hearth.runtime import loader
    from hearth.runtime.chat import commands
    from hearth.runtime.chat.reading import interactive, read_piped, typed
    from hearth.runtime.chat.showing import JsonShown, TextShown
    from hearth.runtime.chat.talking import Chat, talk

    asked = sampling.asked()
    asked["full"] = read_full(full)
    limits = read_options(threads, isa, placing=placing)
    wishes = limits.placing.wishes(choose(quiet=as_json))
    model = loader.load(file, limits.threads, isa=limits.isa, **wishes)
    _ = model.chat_template  # read now: an archive without one is refused before anything is typed
    model.request(**asked)  # so are settings out of range
    person = interactive() and not as_json
    shown = JsonShown() if as_json else TextShown(apart=not person, stats=stats)
    chat = Chat(model, asked, shown)
    if load is None:
        model.conversation(NAME, system)
    else:
        commands.run(chat, f"/load {load}")
    if adapter is not None:
        chat.conversation.use_adapter(adapter)
    if not person:
        talk(chat, read_piped, commands.run)
        return
    shown.note("hello", f"{file.name}: /help lists commands, Ctrl-C stops an answer, Ctrl-D leaves")
    with typed(history.expanduser()) as read:
        talk(chat, read, commands.run)
    shown.note("bye", "")
