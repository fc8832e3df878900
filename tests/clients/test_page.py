"""The chat page in headless Chromium: send, stream, stop, conversations, reload, settings, errors, keyboard."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from typing import Any

import pytest
from support.endless import endless_archive
from support.serve import KEY, Served, serving

playwright = pytest.importorskip("playwright.sync_api", reason="pip install hearth[clients]")
CHROMIUM = shutil.which("chromium")
if CHROMIUM is None:
    pytest.skip("chromium is not installed (apt-get install chromium)", allow_module_level=True)
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update",
)  # fmt: skip
SPEED = re.compile(r"\d+ tokens · \d+\.\d tokens/s · first after \d+\.\d\d s")
LONG_MS = 20_000  # that a busy machine may take


@pytest.fixture(scope="module")
def url(files: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    endless = endless_archive(tmp_path_factory.mktemp("page"))
    with serving([f"tales={files.decoder}", f"endless={endless}"]) as served:
        yield served.url
        assert served.alive


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as running:
        chromium = running.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser: Any, url: str) -> Iterator[Any]:
    """A fresh profile at the page; what the browser complains of fails the test."""
    context = browser.new_context(viewport={"width": 1200, "height": 800})
    page, complaints = context.new_page(), []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda line: line.type == "error" and complaints.append(line.text))
    page.complaints = complaints
    page.set_default_timeout(LONG_MS)
    page.goto(url)
    playwright.expect(page.locator("#model")).to_have_value("tales:latest", timeout=LONG_MS)
    yield page
    context.close()
    assert not complaints


def send(page: Any, text: str) -> None:
    page.fill("#prompt", text)
    page.keyboard.press("Enter")


def answer(page: Any, number: int = 0) -> Any:
    """An answer that has ended."""
    found = page.locator("article.assistant").nth(number)
    playwright.expect(found.locator("footer")).to_be_visible(timeout=LONG_MS)
    return found


def endless(page: Any) -> None:
    """Begin an answer that does not end by itself."""
    page.select_option("#model", label="endless")
    send(page, "Go on for ever")
    grown(page, 40)


def grown(page: Any, length: int) -> None:
    """Wait until the answer has so many characters."""
    text = re.compile(rf"[\s\S]{{{length},}}")
    playwright.expect(page.locator(".assistant .body")).to_have_text(text, timeout=LONG_MS)


def titles(page: Any) -> list[str]:
    return page.locator("#conversations .title").all_inner_texts()  # type: ignore[no-any-return]


def test_send_and_stream(page: Any) -> None:
    """The text grows while it is written, with its speed beside it."""
    endless(page)
    first = page.locator(".assistant .body").inner_text()
    grown(page, 2 * len(first))
    assert page.locator(".assistant").get_attribute("aria-busy") == "true"
    assert re.fullmatch(r"\d+\.\d tokens/s", page.locator("#speed").inner_text())
    assert page.locator("#send").is_hidden() and page.locator("#stop").is_visible()
    page.click("#stop")


def test_a_whole_answer(page: Any) -> None:
    send(page, "Tell me a story about a fire.")
    found = answer(page)
    assert len(found.locator(".body").inner_text()) > 100
    assert SPEED.fullmatch(found.locator(".facts").inner_text())
    assert found.get_attribute("aria-busy") == "false"
    assert page.locator("article.user").inner_text() == "Tell me a story about a fire."
    assert page.locator("#prompt").input_value() == ""
    shots(page, "answer")


@pytest.mark.parametrize("way", ["button", "key"])
def test_stop(page: Any, way: str) -> None:
    endless(page)
    if way == "button":
        page.click("#stop")
    else:
        page.keyboard.press("Escape")
    found = answer(page)
    assert found.locator(".facts").inner_text().startswith("stopped")
    text = found.locator(".body").inner_text()
    page.wait_for_timeout(300)
    assert found.locator(".body").inner_text() == text
    page.select_option("#model", label="tales")
    send(page, "And now something short.")
    facts = answer(page, 1).locator(".facts").inner_text()
    assert SPEED.search(facts)  # where much was written before the stop, it is cut at the limit


def test_an_answer_goes_on_while_another_conversation_is_shown(page: Any) -> None:
    endless(page)
    page.keyboard.press("Alt+n")
    assert page.locator("article").count() == 0
    assert page.locator("#conversations li.running").count() == 1
    page.select_option("#model", label="tales")
    send(page, "Another one")
    answer(page)
    page.keyboard.press("Alt+ArrowDown")
    assert page.locator("#stop").is_visible()
    page.keyboard.press("Escape")
    assert len(answer(page).locator(".body").inner_text()) > 40


def test_conversations(page: Any) -> None:
    """Created, switched, renamed, deleted and brought back."""
    send(page, "First question")
    answer(page)
    page.click("#new")
    send(page, "Second question")
    answer(page)
    assert titles(page) == ["Second question", "First question"]
    page.get_by_role("button", name="First question", exact=True).click()
    assert page.locator("article.user").inner_text() == "First question"
    page.get_by_role("button", name="Rename “First question”").click()
    page.keyboard.type("Fires")
    page.keyboard.press("Enter")
    assert titles(page) == ["Second question", "Fires"]
    assert page.locator("#title").inner_text() == "Fires"
    page.get_by_role("button", name="Second question", exact=True).hover()
    page.get_by_role("button", name="Delete “Second question”").click()
    assert titles(page) == ["Fires"]
    page.get_by_role("button", name="Undo").click()
    assert titles(page) == ["Second question", "Fires"]
    assert page.locator("article.user").inner_text() == "Second question"


def test_reload_keeps_history_and_settings(page: Any) -> None:
    page.click("#show-settings")
    page.fill("[name=system]", "You tell tales.")
    page.fill("[name=temperature]", "0.5")
    page.locator("[name=temperature]").blur()
    page.select_option("[name=theme]", "dark")
    send(page, "Kept?")
    text = answer(page).locator(".body").inner_text()
    page.click("#new")
    send(page, "The newer one")
    answer(page)
    page.reload()
    assert titles(page) == ["The newer one", "Kept?"]
    page.keyboard.press("Alt+ArrowDown")
    assert answer(page).locator(".body").inner_text() == text
    assert page.locator("[name=system]").input_value() == "You tell tales."
    assert page.locator("[name=temperature]").input_value() == "0.5"
    assert page.locator("html").get_attribute("data-theme") == "dark"


def test_a_reload_keeps_what_was_written_of_an_answer(page: Any) -> None:
    endless(page)
    page.wait_for_timeout(700)
    page.reload()
    found = answer(page)
    assert len(found.locator(".body").inner_text()) > 40
    assert found.locator(".facts").inner_text() == "stopped"


def test_settings_reach_the_server(page: Any) -> None:
    bodies: list[Any] = []
    page.on("request", lambda request: request.post_data and bodies.append(request.post_data_json))
    page.click("#show-settings")
    given = {
        "system": "Be brief.",
        "temperature": "0.7",
        "top_p": "0.9",
        "num_predict": "5",
        "seed": "7",
    }
    for name, value in given.items():
        page.fill(f"[name={name}]", value)
    page.locator("[name=seed]").blur()
    send(page, "Hello")
    found = answer(page)
    assert "cut at the limit · 5 tokens" in found.locator(".facts").inner_text()
    asked = bodies[-1]
    assert asked["options"] == {"temperature": 0.7, "top_p": 0.9, "num_predict": 5, "seed": 7}
    assert asked["messages"][0] == {"role": "system", "content": "Be brief."}
    text = found.locator(".body").inner_text()
    page.get_by_role("button", name="Answer again").click()
    playwright.expect(page.locator("article.assistant footer")).to_have_count(1)
    assert answer(page).locator(".body").inner_text() == text  # the same seed


def test_an_answer_is_text_and_never_markup(page: Any) -> None:
    """Written as a model might write it, through the page's own rendering."""
    written = (
        "# Head\n<img src=x onerror=alert(1)> **bold** `code <b>`\n\n- one\n- two\n\n"
        "```html\n<script>alert(1)</script>\n```\n[a](javascript:alert(1))"
    )
    page.evaluate(
        """async (text) => {
          const { render } = await import("/page/markup.js");
          document.querySelector("#messages").replaceChildren(render(text));
        }""",
        written,
    )
    shown = page.locator("#messages")
    assert shown.locator("img, script, a, b").count() == 0
    assert "<img src=x onerror=alert(1)>" in shown.inner_text()
    assert shown.locator("pre code").inner_text() == "<script>alert(1)</script>"
    assert shown.locator("h3").inner_text() == "Head"
    assert shown.locator("strong").inner_text() == "bold"
    assert shown.locator("li").all_inner_texts() == ["one", "two"]


def test_errors_say_what_can_be_done(page: Any) -> None:
    page.route(
        "**/api/chat", lambda route: route.fulfill(status=429, body='{"error": "64 requests wait"}')
    )
    send(page, "Hello")
    failure = page.locator(".failure")
    playwright.expect(failure).to_contain_text("64 requests wait")
    page.unroute("**/api/chat")
    failure.get_by_role("button", name="Try again").click()
    assert len(answer(page).locator(".body").inner_text()) > 20
    page.route("**/api/chat", lambda route: route.abort())
    send(page, "Are you there?")
    playwright.expect(page.locator(".failure")).to_contain_text("cannot be reached")
    shots(page, "error")
    page.complaints.clear()  # the browser's own lines on 429 and the aborted request


def test_a_key_is_asked_for_and_kept_for_the_tab(browser: Any, served: Served) -> None:
    page = browser.new_page()
    page.goto(served.url)
    page.get_by_role("button", name="Enter the API key").click()
    page.keyboard.type(KEY)
    page.keyboard.press("Enter")
    playwright.expect(page.locator("#model")).to_have_value("tales:latest", timeout=LONG_MS)
    send(page, "Hello")
    answer(page)
    assert KEY not in page.evaluate("JSON.stringify(localStorage)")
    page.close()


def test_an_adapter_is_chosen_among_those_of_the_model(page: Any) -> None:
    models: list[str] = []
    page.on("request", lambda each: each.post_data and models.append(each.post_data_json["model"]))
    page.click("#show-settings")
    page.select_option("[name=adapter]", label="loud")
    send(page, "Hello")
    answer(page)
    assert set(models) == {"tales:loud"}
    page.select_option("#model", label="endless")
    assert page.locator("[name=adapter] option").all_inner_texts() == ["none"]


def test_a_small_window(page: Any) -> None:
    page.set_viewport_size({"width": 400, "height": 700})
    send(page, "Hello")
    answer(page)
    assert page.locator("#sidebar").is_hidden()
    shots(page, "small")
    page.click("#menu")
    page.click("#new")
    assert page.locator("article").count() == 0 and page.locator("#sidebar").is_hidden()
    page.click("#menu")
    page.keyboard.press("Escape")
    assert page.locator("#sidebar").is_hidden()
    page.click("#show-settings")
    page.click("#hide-settings")
    assert page.locator("#settings").is_hidden()
    wide = page.evaluate("document.documentElement.scrollWidth")
    assert wide <= 400


def test_everything_can_be_reached_and_has_a_name(page: Any) -> None:
    """By the keyboard, and by those who hear the page."""
    page.click("#show-settings")
    unnamed = page.evaluate(
        """() => [...document.querySelectorAll("button, input, select, textarea")]
          .filter((e) => !(e.getAttribute("aria-label") || e.innerText.trim() || e.labels?.length))
          .map((e) => e.outerHTML)"""
    )
    assert unnamed == []
    page.keyboard.press("Alt+s")
    assert page.locator("#settings").is_hidden()
    page.locator("body").click()
    page.keyboard.press("Tab")
    seen = set()
    for _ in range(12):
        seen.add(page.evaluate("document.activeElement.id || document.activeElement.className"))
        page.keyboard.press("Tab")
    assert {"new", "model", "show-settings", "prompt", "send"} <= seen


def test_nothing_is_asked_of_another_server(page: Any, url: str) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.reload()
    send(page, "Hello")
    answer(page)
    assert asked and all(each.startswith(url) for each in asked)


def shots(page: Any, name: str) -> None:
    """Pictures to look at, in the folder that HEARTH_SHOTS names."""
    folder = os.environ.get("HEARTH_SHOTS")
    if folder:
        page.screenshot(path=f"{folder}/{name}.png")
