"""One server for all faults, which has to answer after each of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from conftest import Archives
from support.faults import CHAT, LONG
from support.serve import KEY, Served, serving


@pytest.fixture(scope="package")
def archive(archives: Archives) -> Path:
    return archives("hearthside", weights="int8", activations="dynamic")


@pytest.fixture(scope="package")
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


@pytest.fixture(scope="package")
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
