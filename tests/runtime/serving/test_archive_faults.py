"""Archives that cannot be read any more when they are needed: the request is told, the server and other models live."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.encoders import compile_encoder
from support.serve import chat_checkpoint, serving

BODY = {
    "prompt": "Tell me a story.",
    "stream": False,
    "options": {"temperature": 0, "num_predict": 8},
}


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("archive_faults")
    return compile_encoder(chat_checkpoint(folder / "chat"), folder / "good.har")


@pytest.fixture(scope="module")
def damaged(archive: Path) -> Path:
    """Served as `bad`; each test begins with a whole copy of the archive, not loaded."""
    return archive.with_name("bad.har")


@pytest.fixture(scope="module")
def client(archive: Path, damaged: Path) -> Iterator[httpx.Client]:
    shutil.copy(archive, damaged)
    with (
        serving([f"good={archive}", f"bad={damaged}"]) as served,
        httpx.Client(base_url=served.url, timeout=60) as client,
    ):
        yield client
        assert served.alive


def generate(client: httpx.Client, model: str) -> httpx.Response:
    return client.post("/api/generate", json={**BODY, "model": model})


def delete(path: Path) -> None:
    path.unlink()


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def scramble(path: Path) -> None:
    """The directory of sections, which is at the end."""
    data = bytearray(path.read_bytes())
    data[-40:] = bytes(40)
    path.write_bytes(data)


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("harm", [delete, truncate, empty, scramble, folder])
def test_an_archive_that_was_harmed_is_told_by_name(
    client: httpx.Client, archive: Path, damaged: Path, harm: Callable[[Path], None]
) -> None:
    wanted = generate(client, "good").json()["response"]
    harm(damaged)
    found = generate(client, "bad")
    assert found.status_code in (500, 503)
    assert damaged.name in found.json()["error"]
    assert any(family in found.json()["error"] for family in ("[archive.", "[resource."))
    openai = client.post("/v1/completions", json={"model": "bad", "prompt": "Tell"})
    assert openai.status_code == found.status_code
    assert generate(client, "good").json()["response"] == wanted
    restore(archive, damaged)
    assert generate(client, "bad").json()["response"] == wanted
    assert client.post("/api/generate", json={"model": "bad", "keep_alive": 0}).status_code == 200


def test_an_archive_replaced_while_it_is_used_goes_on_as_it_was(
    client: httpx.Client, archive: Path, damaged: Path
) -> None:
    """Replaced by another file, as compilers and `mv` do: the mapping is of the old one."""
    wanted: Any = generate(client, "bad").json()["response"]
    other = damaged.with_suffix(".new")
    other.write_bytes(b"not an archive")
    other.replace(damaged)
    assert generate(client, "bad").json()["response"] == wanted
    client.post("/api/generate", json={"model": "bad", "keep_alive": 0})
    assert generate(client, "bad").status_code == 500
    restore(archive, damaged)
    assert generate(client, "bad").json()["response"] == wanted
    client.post("/api/generate", json={"model": "bad", "keep_alive": 0})


def restore(archive: Path, damaged: Path) -> None:
    if damaged.is_dir():
        damaged.rmdir()
    damaged.unlink(missing_ok=True)
    shutil.copy(archive, damaged)
