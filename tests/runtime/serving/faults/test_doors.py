"""Who may ask, and what is told of it: keys, pages of other origins, ids of requests, metrics."""

from __future__ import annotations

import json
import time

import httpx
import pytest
from support.faults import CHAT, LONG, code, metric, post
from support.serve import KEY, Served


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer wrong", f"Basic {KEY}", f"Bearer {KEY}x"])
def test_a_wrong_key_is_refused(client: httpx.Client, header: str) -> None:
    answer = client.get("/v1/models", headers={"Authorization": header})
    assert code(answer) == (401, "invalid_api_key")
    assert answer.headers["www-authenticate"] == "Bearer"


def test_every_key_of_the_file_opens(client: httpx.Client) -> None:
    assert client.get("/v1/models", headers={"Authorization": "bearer another"}).status_code == 200


@pytest.mark.parametrize("path", ["/health", "/openapi.json"])
def test_some_paths_need_no_key(client: httpx.Client, path: str) -> None:
    assert client.get(path, headers={"Authorization": ""}).status_code == 200


def test_metrics_need_a_key(client: httpx.Client) -> None:
    assert client.get("/metrics", headers={"Authorization": ""}).status_code == 401


def test_a_request_id_comes_back(client: httpx.Client, served: Served) -> None:
    answer = client.get("/v1/models", headers={"x-request-id": "mine-1"})
    assert answer.headers["x-request-id"] == "mine-1"
    other = client.get("/v1/models", headers={"x-request-id": "bad\tone"}).headers["x-request-id"]
    assert len(other) == 32
    time.sleep(0.1)
    line = next(line for line in served.log if "mine-1" in line)
    assert json.loads(line[line.index("{") :])["status"] == 200


def test_pages_of_an_origin_may_call(client: httpx.Client) -> None:
    asked = {
        "Origin": "https://page.example",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,content-type",
    }
    answer = client.options(CHAT, headers={**asked, "Authorization": ""})
    assert answer.headers["access-control-allow-origin"] == "https://page.example"
    refused = client.post(CHAT, headers={"Origin": "https://page.example", "Authorization": ""})
    assert refused.status_code == 401
    assert refused.headers["access-control-allow-origin"] == "https://page.example"
    other = client.get("/v1/models", headers={"Origin": "https://other.example"})
    assert "access-control-allow-origin" not in other.headers


def test_metrics_count_requests_and_tokens(client: httpx.Client) -> None:
    before = metric(client, 'hearth_tokens_total{kind="generated"')
    client.post(CHAT, json={**LONG, "max_tokens": 7})
    assert metric(client, 'hearth_tokens_total{kind="generated"') - before == 7
    post(client, b"{}")
    text = client.get("/metrics").text
    assert 'route="/v1/chat/completions",status="400"' in text
    assert 'hearth_model_loaded{model="demo"} 1.0' in text
