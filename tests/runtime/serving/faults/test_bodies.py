"""What is asked for: bodies that are no requests, too long or too deep, and models and paths that are not there."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from support.faults import CHAT, LONG, SHORT, code, post


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b'{"model": "\xff"}', "invalid_json"),
        (b"", "invalid_json"),
        (b"{", "invalid_json"),
        (b"[]", "invalid_json"),
        (b'{"model": "demo", "temperature": NaN}', "invalid_json"),
        (b"[" * 100_000, "invalid_json"),
        (b'{"n": ' + b"9" * 5000 + b"}", "invalid_json"),
        (
            b'{"model": "demo", "messages": [{"role": "user", "content": "\\ud800"}]}',
            "invalid_json",
        ),
        (
            b'{"model": "demo", "messages": ' + b'{"a":' * 900 + b"1" + b"}" * 900 + b"}",
            "invalid_json",
        ),
        (
            b'{"model": "demo", "messages": ' + b'{"a":' * 600 + b"1" + b"}" * 600 + b"}",
            "invalid_value",
        ),
        (b"{}", "missing_parameter"),
        (b'{"model": "demo", "\\udfff": 1}', "invalid_json"),
        (
            b'{"model": "demo", "messages": [{"role": "user", "content": "'
            + b"\\u0000"
            + b'"}], "n": 0}',
            "invalid_value",
        ),
    ],
    ids=[
        "utf8",
        "empty",
        "cut",
        "array",
        "nan",
        "nested",
        "huge-number",
        "surrogate",
        "too-deep",
        "deep",
        "nothing",
        "surrogate-name",
        "nul",
    ],
)
def test_bad_json_and_invalid_utf8_are_refused(
    client: httpx.Client, data: bytes, expected: str
) -> None:
    assert code(post(client, data)) == (400, expected)


@pytest.mark.parametrize("user", ["", ', "user": "\\ud83d\\ude00"'])
def test_a_body_of_any_depth_is_refused_and_no_bug(client: httpx.Client, user: str) -> None:
    """Down to where what reads it would run out of stack itself."""
    for depth in range(900, 1000, 5):
        deep = "[" * depth + "]" * depth
        body = f'{{"model": "demo", "messages": {deep}{user}}}'.encode()
        assert code(post(client, body)) == (400, "invalid_json")


def nested(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(levels):
        schema = {"type": "object", "properties": {"a": schema}, "required": ["a"]}
    return schema


@pytest.mark.parametrize("levels", [130, 300])
def test_schemas_nested_too_deeply_are_refused(client: httpx.Client, levels: int) -> None:
    schema = {"type": "json_schema", "json_schema": {"name": "x", "schema": nested(levels)}}
    for fields in ({"response_format": schema}, {"guided_json": json.dumps(nested(levels))}):
        assert code(client.post(CHAT, json={**LONG, **fields})) == (400, "grammar.schema")


def test_a_path_of_any_length_is_not_found(client: httpx.Client) -> None:
    answer = client.get("/v1/" + "a" * 20_000)
    assert code(answer) == (404, "not_found") and len(answer.content) < 1000


def test_long_stops_and_extreme_biases(client: httpx.Client) -> None:
    stops = [letter * 100_000 for letter in "abcd"]
    assert client.post(CHAT, json={**SHORT, "stop": stops}).status_code == 200
    biases = {str(token): -100 for token in range(1024)}
    answer = client.post(
        CHAT, json={**SHORT, "logit_bias": biases, "temperature": 2, "top_p": 1e-9}
    )
    assert answer.status_code == 200
    huge = client.post(CHAT, json={**SHORT, "logit_bias": {"2147483647": 1}})
    assert code(huge) == (400, "arguments.logit_bias")


def test_a_prompt_of_10_mb_is_refused(client: httpx.Client) -> None:
    data = json.dumps({**LONG, "messages": [{"role": "user", "content": "word " * 2_000_000}]})
    assert code(post(client, data.encode())) == (413, "body_too_large")


def test_a_prompt_of_10_mb_sent_in_chunks_is_refused(client: httpx.Client) -> None:
    def parts() -> Iterator[bytes]:
        for _ in range(10):
            yield b"x" * (1 << 20)

    answer = client.post(CHAT, content=parts(), headers={"content-type": "application/json"})
    assert code(answer) == (413, "body_too_large")


def test_a_prompt_longer_than_the_context_is_refused(client: httpx.Client) -> None:
    answer = client.post(
        CHAT, json={**LONG, "messages": [{"role": "user", "content": "word " * 150_000}]}
    )
    assert code(answer) == (400, "context_length_exceeded")


def test_another_content_type_is_refused(client: httpx.Client) -> None:
    answer = post(client, b"{}", **{"content-type": "text/plain"})
    assert code(answer) == (415, "unsupported_media_type")


def test_an_unknown_model_is_not_found(client: httpx.Client) -> None:
    assert code(client.post(CHAT, json={**LONG, "model": "other"})) == (404, "model_not_found")


def test_unknown_paths_and_methods(client: httpx.Client) -> None:
    assert code(client.get("/v1/nothing")) == (404, "not_found")
    answer = client.get(CHAT)
    assert code(answer) == (405, "method_not_allowed") and answer.headers["allow"] == "POST"


def test_more_answers_than_there_are_places_are_refused_for_good(client: httpx.Client) -> None:
    assert code(client.post(CHAT, json={**LONG, "n": 10})) == (400, "invalid_value")
