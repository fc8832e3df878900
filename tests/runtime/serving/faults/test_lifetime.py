"""Servers that start, stop, are killed and unload, also over TLS: answers end as documented."""

from __future__ import annotations

import json
import signal
import socket
import ssl
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from support.command_line import hearth, process
from support.faults import CHAT, LONG
from support.serve import serving


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
