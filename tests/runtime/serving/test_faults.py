"""What goes wrong between a server and its clients: each has its documented answer, and the server lives."""

from __future__ import annotations

import json
import re
import signal
import socket
import ssl
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from conftest import Archives
from support.command_line import hearth, process
from support.serve import KEY, Served, serving

CHAT = "/v1/chat/completions"
HELLO = [{"role": "user", "content": "Once upon a time"}]
LONG = {"model": "demo", "messages": HELLO, "ignore_eos": True, "max_tokens": 450, "temperature": 0}
BODY_NBYTES = 1 << 20


@pytest.fixture(scope="module")
def archive(archives: Archives) -> Path:
    return archives("hearthside", weights="int8", activations="dynamic")


@pytest.fixture(scope="module")
def served(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    keys = tmp_path_factory.mktemp("keys") / "keys"
    keys.write_text(f"another\n\n{KEY}\n")
    options = (
        "--api-key-file", str(keys), "--client-timeout", "1", "--max-body", "1", "--rows", "1", "--queue", "8",
        "--cors", "https://page.example", "--threads", "1",
    )  # fmt: skip
    with serving([f"demo={archive}"], *options) as found:
        yield found
        assert found.alive, "".join(found.log)


@pytest.fixture(scope="module")
def client(served: Served) -> Iterator[httpx.Client]:
    headers = {"Authorization": f"Bearer {KEY}"}
    with httpx.Client(base_url=served.url, headers=headers, timeout=30) as found:
        yield found


@pytest.fixture(autouse=True)
def lives(client: httpx.Client) -> Iterator[None]:
    """After each fault the server answers a request as before."""
    yield
    answer = client.post(CHAT, json={**LONG, "max_tokens": 3})
    assert answer.status_code == 200, answer.text


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


def asked(body: dict[str, Any], *headers: str, version: str = "1.1") -> bytes:
    """A request as bytes."""
    data = json.dumps(body).encode()
    lines = (
        f"POST {CHAT} HTTP/{version}", "Host: x", f"Authorization: Bearer {KEY}", "Content-Type: application/json",
        *headers,
    )  # fmt: skip
    head = "".join(f"{line}\r\n" for line in lines)
    return f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data


SHORT = {**LONG, "max_tokens": 4}


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


def test_an_unknown_model_is_not_found(client: httpx.Client) -> None:
    assert code(client.post(CHAT, json={**LONG, "model": "other"})) == (404, "model_not_found")


def test_unknown_paths_and_methods(client: httpx.Client) -> None:
    assert code(client.get("/v1/nothing")) == (404, "not_found")
    answer = client.get(CHAT)
    assert code(answer) == (405, "method_not_allowed") and answer.headers["allow"] == "POST"


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


def test_more_answers_than_there_are_places_are_refused_for_good(client: httpx.Client) -> None:
    assert code(client.post(CHAT, json={**LONG, "n": 10})) == (400, "invalid_value")


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
    text = client.get("/metrics").text
    assert 'route="/v1/chat/completions",status="400"' in text
    assert 'hearth_model_loaded{model="demo"} 1.0' in text


def stopped(archive: Path, *options: str, **fields: Any) -> tuple[list[str], int]:
    """The data of a stream during which the server is told to stop, and the server's exit code."""
    with serving([f"demo={archive}"], "--rows", "1", "--threads", "1", *options) as found:
        body = {**LONG, "stream": True, **fields}
        with httpx.stream("POST", found.url + CHAT, json=body, timeout=30) as answer:
            lines = answer.iter_lines()
            first = next(lines)
            found.process.send_signal(signal.SIGTERM)
            data = [line for line in (first, *lines) if line]
        return data, found.process.wait(30)


def test_stopping_lets_answers_end(archive: Path, lives: None) -> None:
    data, exit_code = stopped(archive)
    assert data[-1] == "data: [DONE]" and exit_code == 0


def test_stopping_cancels_what_is_not_drained(archive: Path) -> None:
    data, exit_code = stopped(archive, "--drain", "0", n=20)
    assert json.loads(data[-1].removeprefix("data: "))["error"]["code"] == "resource.closing"
    assert exit_code == 0


def test_a_server_that_was_killed_starts_again(archive: Path) -> None:
    with serving([f"demo={archive}"]) as found:
        body = {**LONG, "stream": True, "n": 8}
        with httpx.stream("POST", found.url + CHAT, json=body) as answer:
            lines = answer.iter_lines()
            next(lines)
            found.process.kill()
            with pytest.raises(httpx.HTTPError):
                list(lines)
        port = str(urlsplit(found.url).port)
    with serving([f"demo={archive}"], port=port) as again:
        assert httpx.post(again.url + CHAT, json={**LONG, "max_tokens": 2}).status_code == 200


def test_a_port_that_is_taken_is_refused(archive: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        found = process("serve", f"demo={archive}", "--port", taken.getsockname()[1])
    assert found.returncode == 6 and "resource.port" in found.stderr


@pytest.mark.parametrize(
    ("expected", "options"),
    [
        ("archive.truncated", ()),
        ("arguments.api_key", ("--api-key-file", "/nonexistent")),
        ("arguments.tls", ("--tls-key", "/nonexistent")),
        ("arguments.serve", ("--rows", 0)),
        ("arguments.threads", ("--threads", 0)),
        ("archive.not_found", ("--draft", "/nonexistent")),
    ],
)
def test_what_cannot_be_served_is_refused_at_the_start(
    archive: Path, tmp_path: Path, capsys: Any, expected: str, options: tuple[object, ...]
) -> None:
    broken = tmp_path / "broken.har"
    broken.write_bytes(archive.read_bytes()[:5000])
    assert hearth("serve", broken, *options) != 0
    assert expected in capsys.readouterr().err


def test_a_model_unloaded_while_others_load_it_is_answered_each_time(archive: Path) -> None:
    """Unloading waits for those who use a model; who comes later loads it anew."""
    body = {"model": "demo", "prompt": "Once", "stream": False, "keep_alive": 0}
    with serving([f"demo={archive}"], "--threads", "1", "--rows", "2") as found:

        def ask(number: int) -> int:
            fields = {**body, "options": {"num_predict": 1 + number % 5}}
            return httpx.post(f"{found.url}/api/generate", json=fields, timeout=60).status_code

        with ThreadPoolExecutor(6) as pool:
            assert set(pool.map(ask, range(30))) == {200}
        assert found.alive and not [line for line in found.log if "this is a bug" in line]


def test_stopping_while_a_stream_goes_over_https(archive: Path, tmp_path: Path) -> None:
    certificate, key = self_signed(tmp_path)
    options = ("--tls-cert", str(certificate), "--tls-key", str(key), "--threads", "1")
    context = ssl.create_default_context(cafile=str(certificate))
    with serving([f"demo={archive}"], *options) as found:
        body = {**LONG, "stream": True}
        with httpx.stream(
            "POST", found.url + CHAT, json=body, timeout=30, verify=context
        ) as answer:
            lines = answer.iter_lines()
            next(lines)
            found.process.send_signal(signal.SIGTERM)
            assert [line for line in lines if line][-1] == "data: [DONE]"
        assert found.process.wait(30) == 0


def test_https_with_a_certificate(archive: Path, tmp_path: Path) -> None:
    certificate, key = self_signed(tmp_path)
    options = ("--tls-cert", str(certificate), "--tls-key", str(key))
    with serving([f"demo={archive}"], *options) as found:
        assert found.url.startswith("https://127.0.0.1:")
        assert (
            httpx.get(
                f"{found.url}/health", verify=ssl.create_default_context(cafile=str(certificate))
            ).status_code
            == 200
        )


def self_signed(folder: Path) -> tuple[Path, Path]:
    from datetime import UTC, datetime, timedelta
    from ipaddress import ip_address

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    private = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), False
        )
        .sign(private, hashes.SHA256())
    )
    certificate, key = folder / "cert.pem", folder / "key.pem"
    certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    form = serialization.PrivateFormat.PKCS8
    none = serialization.NoEncryption()
    key.write_bytes(private.private_bytes(serialization.Encoding.PEM, form, none))
    return certificate, key
