"""Requests that go wrong, and what a server says of them: for the tests of its faults."""

from __future__ import annotations

import json
import socket
import time
from typing import Any
from urllib.parse import urlsplit

import httpx

from support.serve import KEY, Served

CHAT = "/v1/chat/completions"
HELLO = [{"role": "user", "content": "Once upon a time"}]
LONG = {"model": "demo", "messages": HELLO, "ignore_eos": True, "max_tokens": 450, "temperature": 0}
SHORT = {**LONG, "max_tokens": 4}


def code(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


def post(client: httpx.Client, data: bytes, **headers: str) -> httpx.Response:
    given = {"content-type": "application/json", **headers}
    return client.post(CHAT, content=data, headers=given)


def connect(served: Served) -> socket.socket:
    place = urlsplit(served.url)
    assert place.hostname and place.port
    return socket.create_connection((place.hostname, place.port), timeout=10)


def everything(connection: socket.socket) -> bytes:
    parts = []
    while part := connection.recv(1 << 16):
        parts.append(part)
    return b"".join(parts)


def metric(client: httpx.Client, name: str) -> float:
    lines = client.get("/metrics").text.splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith(name))


def eventually(client: httpx.Client, name: str, value: float) -> None:
    until = time.monotonic() + 10
    while metric(client, name) != value:
        assert time.monotonic() < until, f"{name} is {metric(client, name)}, not {value}"
        time.sleep(0.02)


def asked(body: dict[str, Any], *headers: str, version: str = "1.1") -> bytes:
    """A request as bytes."""
    data = json.dumps(body).encode()
    lines = (
        f"POST {CHAT} HTTP/{version}", "Host: x", f"Authorization: Bearer {KEY}", "Content-Type: application/json",
        *headers,
    )  # fmt: skip
    head = "".join(f"{line}\r\n" for line in lines)
    return f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data
