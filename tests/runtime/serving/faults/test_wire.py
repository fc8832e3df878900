"""How it is sent: old and unusual forms of HTTP, what is none, and clients that are slow."""

from __future__ import annotations

import json
import re
import time

import pytest
from support.faults import CHAT, SHORT, asked, connect, everything
from support.serve import KEY, Served


@pytest.mark.parametrize("stream", [False, True])
def test_http_1_0_is_answered_and_closed(served: Served, stream: bool) -> None:
    with connect(served) as connection:
        connection.sendall(asked({**SHORT, "stream": stream}, version="1.0"))
        answer = everything(connection)
    assert b" 200 OK" in answer and b"chunked" not in answer
    assert answer.endswith(b"data: [DONE]\n\n" if stream else b"}")


def test_requests_sent_at_once_are_answered_in_order(served: Served) -> None:
    bodies = [{**SHORT, "stream": True}, SHORT, {**SHORT, "model": "other"}]
    last = asked(bodies.pop(), "Connection: close")
    with connect(served) as connection:
        connection.sendall(b"".join(map(asked, bodies)) + last)
        answer = everything(connection)
    statuses = re.findall(rb"HTTP/1\.1 (\d+)", answer)
    assert statuses == [b"200", b"200", b"404"] and answer.count(b"data: [DONE]") == 1


def test_a_body_in_chunks_of_a_byte_is_read(served: Served) -> None:
    data = json.dumps(SHORT).encode()
    head = asked(SHORT, "Connection: close", "Transfer-Encoding: chunked").split(b"Content-Length")
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in data)
    with connect(served) as connection:
        connection.sendall(head[0] + b"\r\n" + chunks + b"0\r\n\r\n")
        assert everything(connection).startswith(b"HTTP/1.1 200")


def test_a_client_may_wait_to_be_asked_for_its_body(served: Served) -> None:
    head, _, body = asked(SHORT, "Connection: close", "Expect: 100-continue").partition(b"\r\n\r\n")
    with connect(served) as connection:
        connection.sendall(head + b"\r\n\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 100")
        connection.sendall(body)
        assert everything(connection).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize(
    "head",
    [
        b"GET /health HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: x\r\n" + b"X: y\r\n" * 40_000 + b"\r\n",
        b"POST /v1/models HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n",
    ],
    ids=["length", "many", "chunk"],
)
def test_heads_and_chunks_that_are_none_are_refused(served: Served, head: bytes) -> None:
    with connect(served) as connection:
        connection.sendall(head)
        assert connection.recv(100).startswith(b"HTTP/1.1 400")


def test_a_request_that_is_no_http_is_refused(served: Served) -> None:
    with connect(served) as connection:
        connection.sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n")
        assert everything(connection).startswith(b"HTTP/1.1 400")


def test_a_client_that_sends_its_head_slowly_is_hung_up_on(served: Served) -> None:
    with connect(served) as connection:
        connection.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nX-Slow: ")
        began = time.monotonic()
        assert everything(connection) == b""
        assert time.monotonic() - began < 5


def test_a_client_that_says_nothing_is_hung_up_on(served: Served) -> None:
    with connect(served) as connection:
        assert everything(connection) == b""


def test_a_client_that_sends_its_body_slowly_is_refused(served: Served) -> None:
    head = (
        f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\n"
        "Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
    )
    with connect(served) as connection:
        connection.sendall(head.encode())
        answer = everything(connection)
    assert answer.startswith(b"HTTP/1.1 408") and b'"code":"timeout"' in answer
