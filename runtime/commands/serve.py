"""`hearth serve`: archives behind the HTTP interfaces of OpenAI and Ollama."""

from __future__ import annotations

import logging
import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hearth.runtime.commands.arguments import read_full
from hearth.runtime.commands.common_options import IsaOption, PlacingOptions, ThreadsOption
from hearth.runtime.commands.groups import spread
from hearth.runtime.options import Options, read_options
from hearth.runtime.serving.pacing import GAP_S
from hearth.schemas.errors import UsageError, reason

if TYPE_CHECKING:
    from starlette.applications import Starlette

    from hearth.runtime.serving.app import AppOptions, Limits
    from hearth.runtime.serving.host import Address
    from hearth.runtime.serving.settings import Settings

MIB = 1 << 20


@dataclass(frozen=True)
class ListenOptions:
    """Where it is reached, and by whom."""

    host: Annotated[str, typer.Option(help="the address to listen at")] = "127.0.0.1"
    port: Annotated[int, typer.Option(help="0: any that is free")] = 8080
    api_key_file: Annotated[
        Path | None, typer.Option(help="keys that clients must show one of, one a line")
    ] = None
    tls_cert: Annotated[Path | None, typer.Option(help="certificate (PEM), for HTTPS")] = None
    tls_key: Annotated[Path | None, typer.Option(help="its key (PEM)")] = None
    cors: Annotated[
        list[str] | None,
        typer.Option(help="an origin whose pages may call, * for all; may be given several times"),
    ] = None

    def address(self) -> Address:
        """The checked form."""
        from hearth.runtime.serving.host import Address, check_certificate

        address = Address(self.host, self.port, self.tls_cert, self.tls_key)
        check_certificate(address)
        return address


@dataclass(frozen=True)
class AnswerOptions:
    """How answers are computed, and how many at once."""

    rows: Annotated[int, typer.Option(help="answers computed at once, for each model")] = 8
    queue: Annotated[int, typer.Option(help="requests that may wait, for each model")] = 64
    prefix_cache: Annotated[
        int, typer.Option(help="MiB of prompts kept for others that begin alike")
    ] = 256
    gap: Annotated[
        float,
        typer.Option(
            help="ms between tokens of an answer, about, while prompts of others are read"
        ),
    ] = GAP_S * 1e3
    draft: Annotated[
        str | None,
        typer.Option(help="guess tokens: lookup (in the prompt), or a smaller model's .har file"),
    ] = None
    full: Annotated[
        str,
        typer.Option(
            help="at the end of the context, where a request does not say: stop, slide (forget the oldest), error"
        ),
    ] = "stop"
    keep_alive: Annotated[
        float | None, typer.Option(help="seconds after which an idle model is unloaded; else never")
    ] = None
    drain: Annotated[
        float, typer.Option(help="seconds that answers have to end when the server is stopped")
    ] = 10.0

    def settings(self, here: Options) -> Settings:
        """The checked form; UsageError `arguments.serve`, or what is wrong with the file of the draft."""
        from hearth.runtime.serving.served import read_served
        from hearth.runtime.serving.settings import Settings

        _check({"--rows": self.rows, "--queue": self.queue, "--gap": self.gap})
        if self.draft not in (None, "lookup"):
            read_served("draft", Path(self.draft))
        return Settings(
            here,
            keep_alive_s=math.inf if self.keep_alive is None else self.keep_alive,
            rows=self.rows,
            queue=self.queue,
            prefix_nbytes=self.prefix_cache * MIB,
            gap_s=self.gap / 1e3,
            draft=self.draft,
            full=read_full(self.full),
            drain_s=self.drain,
        )


@dataclass(frozen=True)
class PatienceOptions:
    """How much a request may be, and how long."""

    max_body: Annotated[float, typer.Option(help="MiB of a request at most")] = 8.0
    timeout: Annotated[float, typer.Option(help="seconds of an answer at most; 0: any")] = 600.0
    client_timeout: Annotated[
        float,
        typer.Option(help="seconds that a client may take for its request's body, or to read"),
    ] = 30.0

    def limits(self) -> Limits:
        """The checked form; UsageError `arguments.serve`."""
        from hearth.runtime.serving.app import Limits

        _check({"--max-body": self.max_body, "--client-timeout": self.client_timeout})
        return Limits(
            body_nbytes=int(self.max_body * MIB),
            head_s=min(10.0, self.client_timeout),
            body_s=self.client_timeout,
            answer_s=self.timeout or None,
            write_s=self.client_timeout,
        )


@spread
def serve_command(
    files: Annotated[list[str], typer.Argument(help="the .har files, each FILE or NAME=FILE")],
    *,
    listen: ListenOptions,
    answers: AnswerOptions,
    patience: PatienceOptions,
    threads: ThreadsOption = None,
    isa: IsaOption = None,
    placing: PlacingOptions,
    quiet: Annotated[bool, typer.Option("--quiet", help="log errors alone")] = False,
) -> None:
    """Serve compiled models over HTTP, as OpenAI's and Ollama's servers do."""
    from hearth.runtime.machine.wishes import machine
    from hearth.runtime.serving.app import AppOptions
    from hearth.runtime.serving.host import serve

    here = read_options(threads, isa, placing=placing)
    limits = patience.limits()
    machine(here.threads, here.isa, here.placing.wishes())  # what is wrong is said now
    settings, address = answers.settings(here), listen.address()
    options = AppOptions(read_keys(listen.api_key_file), tuple(listen.cors or ()), limits)
    _log_to_stderr(quiet)
    app = _app(files, settings, options)
    serve(app, address, answers.drain, _ready)


def _app(files: list[str], settings: Settings, options: AppOptions) -> Starlette:
    from hearth.runtime.serving.app import make_app
    from hearth.runtime.serving.scheduling import scheduler_of
    from hearth.runtime.serving.served import read_files
    from hearth.runtime.serving.service import Service
    from hearth.runtime.serving.surfaces import SURFACES

    service = Service(read_files(files), settings, scheduler_of(settings))
    return make_app(service, SURFACES, options)


def read_keys(path: Path | None) -> frozenset[str]:
    """The keys of a file, one a line; UsageError `arguments.api_key` where it holds none."""
    if path is None:
        return frozenset()
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise _no_key(path, reason(error)) from None
    keys = frozenset(line.strip() for line in lines if line.strip())
    if not keys or not all(key.isascii() and key.isprintable() for key in keys):
        raise _no_key(path, "it holds no key")
    return keys


def _no_key(path: Path, found: str) -> UsageError:
    return UsageError(
        "arguments.api_key",
        f"no API key: {found}",
        expected="a file with a key of ASCII letters on each line",
        where=str(path),
    )


def _check(counts: dict[str, float]) -> None:
    for name, value in counts.items():
        if not value > 0:
            raise UsageError("arguments.serve", f"{name} is {value:g}", expected="more than 0")


def _log_to_stderr(quiet: bool) -> None:
    """The one place that sets logging up: a line for each request, and what goes wrong."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    for name in ("hearth.serve", "uvicorn.error"):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(logging.WARNING if quiet or name != "hearth.serve" else logging.INFO)


def _ready(url: str) -> None:
    print(f"hearth: listening at {url}", file=sys.stderr, flush=True)
