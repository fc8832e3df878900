"""The chat page's files: all of them sent, with a policy under which nothing else can run or be reached."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from hearth.runtime.serving import page

FOLDER = Path(__file__).parents[3] / "runtime/serving/page"
PART = page.make_part()


@pytest.fixture
def client() -> TestClient:
    return TestClient(Starlette(routes=PART.routes))


def test_every_file_of_the_folder_is_sent_and_no_other() -> None:
    files = {path.name for path in FOLDER.iterdir() if path.suffix not in ("", ".py")}
    assert files == set(page.MEDIA_TYPES)


@pytest.mark.parametrize("name", page.MEDIA_TYPES)
def test_a_file_is_sent_as_it_is_and_not_twice(client: TestClient, name: str) -> None:
    found = client.get(f"/page/{name}")
    assert found.content == (FOLDER / name).read_bytes()
    assert found.headers["content-type"] == page.MEDIA_TYPES[name]
    assert found.headers["content-security-policy"] == page.POLICY
    assert found.headers["x-content-type-options"] == "nosniff"
    again = client.get(f"/page/{name}", headers={"if-none-match": found.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


def test_a_browser_gets_the_page_and_others_a_line(client: TestClient) -> None:
    browser = client.get("/", headers={"accept": "text/html,application/xhtml+xml"})
    assert browser.text.startswith("<!doctype html>")
    assert client.get("/").text == page.LIVE
    assert client.head("/").status_code == 200


def test_nothing_is_loaded_from_elsewhere() -> None:
    for name in page.MEDIA_TYPES:
        text = (FOLDER / name).read_text()
        addresses = re.findall(r"(?:https?:)?//[\w.-]+\.\w+[^\s\"']*", text)
        assert set(addresses) <= {"http://www.w3.org/2000/svg"}, name


def test_no_text_becomes_markup_or_code() -> None:
    """What a model writes reaches the page as text alone."""
    ways = ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "Function(")
    for path in FOLDER.glob("*.js"):
        assert not [way for way in ways if way in path.read_text()], path.name
    html = (FOLDER / "index.html").read_text()
    assert not re.search(r"\son\w+=|\sstyle=|<style|<script(?![^>]*\ssrc=)", html)


def test_the_page_needs_no_key_and_what_it_asks_for_does() -> None:
    assert PART.open_paths("/") and PART.open_paths("/page/main.js")
    assert not PART.open_paths("/api/tags") and not PART.open_paths("/v1/models")
