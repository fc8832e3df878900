"""uvicorn as this server runs it: a time for request heads, a drain at the end, its address told once it listens."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h11
import uvicorn
from starlette.applications import Starlette
from uvicorn.protocols.http.h11_impl import H11Protocol

from hearth.runtime.serving.app import Serving
from hearth.schemas.errors import ResourceError, UsageError

BACKLOG = 2048
LAST_RESORT_S = 5.0  # between the cancelling of answers and that of their coroutines
HEAD_NBYTES = 64 << 10  # the largest head of a request


@dataclass(frozen=True)
class Address:
    """Where to listen (port 0: one that is free), and with which certificate."""

    host: str
    port: int
    certificate: Path | None = None
    key: Path | None = None


def serve(app: Starlette, address: Address, drain_s: float, ready: Callable[[str], None]) -> None:
    """Run until SIGINT or SIGTERM: then accept nothing more, let answers end for `drain_s`, cancel the rest.

    `ready` is told the URL. Raises ResourceError `resource.port`, UsageError `arguments.tls`.
    """
    serving: Serving = app.state.serving
    check_certificate(address)
    listener = listen(address)
    config = uvicorn.Config(
        app,
        http=_protocol(serving.limits.head_s),
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        backlog=BACKLOG,
        h11_max_incomplete_event_size=HEAD_NBYTES,
        timeout_graceful_shutdown=int(drain_s + LAST_RESORT_S),
        ssl_certfile=address.certificate,
        ssl_keyfile=address.key,
    )
    server = _Server(config, serving, drain_s, lambda: ready(url(address, listener)))
    server.run(sockets=[listener])


def listen(address: Address) -> socket.socket:
    """A bound socket; ResourceError `resource.port` where it cannot be had."""
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((address.host, address.port))
    except (OSError, OverflowError) as error:
        listener.close()
        raise ResourceError(
            "resource.port",
            f"cannot listen at {address.host}, port {address.port}: {error}",
            expected="an address of this machine and a port that is free",
            remedy="choose another with --host and --port; port 0 is any free one",
        ) from None
    return listener


def check_certificate(address: Address) -> None:
    """UsageError `arguments.tls` where certificate and key cannot be used."""
    if address.certificate is None and address.key is None:
        return
    try:
        if address.certificate is None:
            raise ValueError("a key without a certificate")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(address.certificate, address.key, password=lambda: "")
    except (OSError, ValueError) as error:
        raise UsageError(
            "arguments.tls",
            f"the certificate and key cannot be used: {error}",
            expected="PEM files that belong together, the key without a password",
            remedy="give --tls-cert and --tls-key",
        ) from None


def url(address: Address, listener: socket.socket) -> str:
    """Where the server is reached."""
    scheme = "http" if address.certificate is None else "https"
    host = f"[{address.host}]" if ":" in address.host else address.host
    return f"{scheme}://{host}:{listener.getsockname()[1]}"


class _Server(uvicorn.Server):
    """Ends with exit code 0 on a signal; a second one ends it at once."""

    def __init__(
        self, config: uvicorn.Config, serving: Serving, drain_s: float, ready: Callable[[], None]
    ) -> None:
        super().__init__(config)
        self._serving, self._drain_s, self._ready = serving, drain_s, ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Answers that are under way may end within the drain; then schedulers cancel what is left."""
        closing = asyncio.create_task(self._close())
        await super().shutdown(sockets)
        await closing

    async def _close(self) -> None:
        until = asyncio.get_running_loop().time() + self._drain_s
        while self.server_state.tasks and asyncio.get_running_loop().time() < until:
            if self.force_exit:
                break
            await asyncio.sleep(0.05)
        await asyncio.to_thread(self._serving.service.close, 0.0)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        before = {each: signal.signal(each, self._end) for each in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for each, handler in before.items():
                signal.signal(each, handler)

    def _end(self, number: int, frame: Any) -> None:
        self.force_exit = self.should_exit
        self.should_exit = True


def _protocol(head_s: float) -> type[H11Protocol]:
    """A protocol whose clients must send the whole head of a request within `head_s`."""

    class Patient(H11Protocol):
        late: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self.late = self.loop.call_later(head_s, self.hang_up)

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            waiting = self.conn.their_state is h11.IDLE and not self.transport.is_closing()
            if not waiting and self.late is not None:
                self.late.cancel()
                self.late = None
            elif waiting and self.late is None:
                self.late = self.loop.call_later(head_s, self.hang_up)

        def connection_lost(self, error: Exception | None) -> None:
            if self.late is not None:
                self.late.cancel()
            super().connection_lost(error)

        def hang_up(self) -> None:
            """Without an answer, as servers do: there is no request yet."""
            if self.conn.their_state is h11.IDLE:
                self.transport.close()

    return Patient
