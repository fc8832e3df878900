"""Clients that leave, and more of them than there is room for: rows become free."""

from __future__ import annotations

import socket
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from support.faults import CHAT, LONG, asked, code, connect, eventually, everything, metric
from support.serve import Served


def test_a_client_that_closes_its_half_has_gone_away(client: httpx.Client, served: Served) -> None:
    """As with other servers: an end of what a client sends cannot be told from its having left."""
    with connect(served) as connection:
        connection.sendall(asked(LONG))
        connection.shutdown(socket.SHUT_WR)
        assert everything(connection) == b""
    eventually(client, "hearth_rows_active", 0)


def test_a_client_that_vanishes_while_its_prompt_is_read_frees_its_row(
    client: httpx.Client, served: Served
) -> None:
    body = {**LONG, "messages": [{"role": "user", "content": "Once upon a time " * 100}]}
    with connect(served) as connection:
        connection.sendall(asked(body))
        time.sleep(0.02)
    eventually(client, "hearth_rows_active", 0)


def test_a_client_that_vanishes_before_its_body_has_come(served: Served) -> None:
    with connect(served) as connection:
        connection.sendall(
            f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{{".encode()
        )


def test_a_client_that_vanishes_mid_stream_frees_its_row(client: httpx.Client) -> None:
    before = metric(client, "hearth_tokens_total")
    with client.stream("POST", CHAT, json={**LONG, "stream": True, "n": 8}) as answer:
        next(answer.iter_bytes())
    eventually(client, "hearth_rows_active", 0)
    assert metric(client, "hearth_tokens_total") - before < 8 * 450


def test_a_client_that_does_not_wait_for_its_answer_frees_its_row(client: httpx.Client) -> None:
    with pytest.raises(httpx.ReadTimeout):
        client.post(CHAT, json={**LONG, "n": 8}, timeout=0.15)
    eventually(client, "hearth_rows_active", 0)
    eventually(client, "hearth_queue_length", 0)


def test_a_full_queue_answers_429(client: httpx.Client) -> None:
    with ThreadPoolExecutor(4) as pool:  # each asks for all the places there are
        answers = list(pool.map(lambda _: client.post(CHAT, json={**LONG, "n": 9}), range(4)))
    assert {answer.status_code for answer in answers} == {200, 429}
    full = next(answer for answer in answers if answer.status_code == 429)
    assert code(full) == (429, "rate_limit_exceeded") and full.headers["retry-after"] == "1"
    eventually(client, "hearth_rows_active", 0)
