"""The command `hearth`: finds its verbs by entry point, runs one, and turns errors into messages and exit codes.

docs/errors.md lists the exit codes. An error that is not the user's keeps its traceback.
"""

from __future__ import annotations

import ast
import json
import os
import sys
from collections.abc import Mapping, Sequence
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TextIO

from hearth.runtime.commands.terminal import unwritable_output
from hearth.schemas import __version__
from hearth.schemas.errors import HearthError, MissingError, UsageError

GROUP = "hearth.commands"
INTERRUPTED, PIPE_CLOSED = 130, 141  # as a shell reports SIGINT and SIGPIPE
# Which extra brings a package that some commands need.
EXTRAS = {
    "onnx": "compiler",
    "onnxruntime": "compiler",
    "networkx": "compiler",
    "safetensors": "compiler",
    "jsonschema": "compiler",
    "starlette": "server",
    "uvicorn": "server",
    "h11": "server",
    "prometheus_client": "server",
}
USAGE = """usage: hearth COMMAND [ARGUMENTS]

{commands}

hearth COMMAND --help shows what a command takes; hearth --version the version.
"""

Commands = Mapping[str, metadata.EntryPoint]


def main() -> None:
    """The console script."""
    sys.exit(run(sys.argv[1:], installed()))


def installed() -> Commands:
    """The verbs of all installed packages."""
    return {point.name: point for point in metadata.entry_points(group=GROUP)}


def run(arguments: Sequence[str], commands: Commands) -> int:
    """Run one command line; the exit code."""
    _open_closed_streams()
    try:
        code = _dispatch(list(arguments), commands)
        _flush()
        return code
    except HearthError as error:
        _report(error, "--json" in arguments)
        return error.exit_code
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        _silence(sys.stdout)
        return PIPE_CLOSED


def _dispatch(arguments: list[str], commands: Commands) -> int:
    match arguments:
        case [] | ["--help" | "-h" | "help", *_]:
            print(USAGE.format(commands=_listing(commands)), end="")
            return 0 if arguments else UsageError.exit_code
        case ["--version", *_]:
            print(f"hearth {__version__}")
            return 0
        case [name, *rest] if name in commands:
            return _call(commands[name], rest)
        case [name, *_]:
            raise UsageError(
                "arguments.command",
                f"there is no command {name!r}",
                expected=f"one of {', '.join(sorted(commands))}",
            )
    raise AssertionError(arguments)


def _call(point: metadata.EntryPoint, arguments: list[str]) -> int:
    """Run a verb's function with its arguments parsed; the exit code it asks for."""
    import typer

    usage_error = next(
        kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException"
    )
    try:
        command = _command(point)
        with command.make_context(f"hearth {point.name}", arguments) as context:
            command.invoke(context)
    except typer.Exit as left:
        return left.exit_code
    except typer.Abort:
        return INTERRUPTED
    except ModuleNotFoundError as error:
        raise _missing(point.name, error) from None
    except Exception as error:
        if isinstance(error, usage_error):
            raise _usage(point.name, error) from None
        raise
    return 0


def _command(point: metadata.EntryPoint) -> Any:
    import typer

    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    loaded = point.load()
    if isinstance(loaded, typer.Typer):  # a verb of verbs
        app.add_typer(loaded, name=point.name)
        whole: Any = typer.main.get_command(app)
        return whole.commands[point.name]
    app.command()(loaded)
    return typer.main.get_command(app)


def _usage(name: str, error: Exception) -> UsageError:
    text: str = error.format_message() if hasattr(error, "format_message") else str(error)
    return UsageError("arguments.usage", text.rstrip("."), remedy=f"see hearth {name} --help")


def _missing(name: str, error: ModuleNotFoundError) -> Exception:
    """An optional package is not there; any other missing module is a bug."""
    package = (error.name or "").split(".")[0]
    extra = EXTRAS.get(package)
    if (error.name or "").startswith("hearth.compiler"):
        package, extra = "hearth.compiler", "compiler"
    if extra is None:
        return error
    return MissingError(
        "command.missing_package",
        f"hearth {name} needs {package}, which is not installed",
        remedy=f'pip install "hearth[{extra}]"',
    )


def _listing(commands: Commands) -> str:
    width = max((len(name) for name in commands), default=0)
    return "\n".join(
        f"  {name:{width}}  {_summary(commands[name])}".rstrip() for name in sorted(commands)
    )


def _summary(point: metadata.EntryPoint) -> str:
    """The first line of the docstring of a verb's function, read without importing its module."""
    try:
        spec = find_spec(point.module)
        tree = ast.parse(Path(spec.origin).read_bytes() if spec and spec.origin else b"")
    except (ImportError, OSError, SyntaxError):
        return ""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.name == point.attr:
            return (ast.get_docstring(node) or "").partition("\n")[0]
        match node:
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.Call(keywords=keywords)) if (
                name == point.attr
            ):  # a verb of verbs: typer.Typer(help=...)
                texts = (each.value for each in keywords if each.arg == "help")
                return next((ast.literal_eval(text) for text in texts), "")
    return ""


def _report(error: HearthError, as_json: bool) -> None:
    """One line on stderr: text, or a JSON object."""
    fields = {"code": error.code, "message": str(error), "exit_code": error.exit_code}
    try:
        print(json.dumps(fields) if as_json else f"hearth: {error}", file=sys.stderr, flush=True)
    except OSError:  # nobody can be told; the exit code says it
        _silence(sys.stderr)


def _flush() -> None:
    """Give out what is buffered, where failing can still be told."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        _silence(sys.stdout)
        raise unwritable_output(error) from None


def _silence(stream: TextIO) -> None:
    """Nobody reads it: let the interpreter flush into nothing when it exits."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _open_closed_streams() -> None:
    """Standard streams that the caller closed lead nowhere, lest a file opened later take their numbers."""
    for number, (name, mode) in enumerate({"stdin": "r", "stdout": "w", "stderr": "w"}.items()):
        if getattr(sys, name) is None:
            descriptor = os.open(os.devnull, os.O_RDWR)
            if descriptor != number:
                os.dup2(descriptor, number)
                os.close(descriptor)
            setattr(sys, name, os.fdopen(number, mode, encoding="utf-8", closefd=False))


if __name__ == "__main__":
    main()
