"""The pages: every link leads to a file and a heading that are there, and docs/README.md lists every page."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = sorted([ROOT / "README.md", ROOT / "schemas/FORMAT.md", *(ROOT / "docs").glob("*.md")])
LINK = re.compile(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]*))?\)")


def anchors(page: Path) -> set[str]:
    """What links may name: headings as GitHub spells them, and anchors of their own."""
    text = page.read_text(encoding="utf-8")
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    spelled = {re.sub(r"[^\w\- ]", "", each).strip().lower().replace(" ", "-") for each in headings}
    return spelled | set(re.findall(r'<a id="([^"]*)">', text))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    lost = []
    for target, anchor in LINK.findall(page.read_text(encoding="utf-8")):
        there = (page.parent / target).resolve() if target else page
        if not there.exists() or (anchor and anchor not in anchors(there)):
            lost.append(f"{target}#{anchor}" if anchor else target)
    assert lost == []


def test_the_list_of_pages_has_them_all() -> None:
    listed = {target for target, _ in LINK.findall((ROOT / "docs/README.md").read_text())}
    assert {page.name for page in (ROOT / "docs").glob("*.md")} - listed == {"README.md"}


def test_every_file_that_the_pages_name_is_there() -> None:
    kept = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.split()
    if not kept:
        pytest.skip("no git checkout")
    named = re.compile(r"`((?:compiler|runtime|schemas|tests|models|docs)/[\w./-]+\.\w+)`")
    found = {name for page in PAGES for name in named.findall(page.read_text(encoding="utf-8"))}
    assert found
    assert found - set(kept) == set()
