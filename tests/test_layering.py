"""Imports go one way: compiler -> runtime -> schemas; nothing reads the environment below the command line."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ALLOWED = {
    "schemas": {"schemas"},
    "runtime": {"runtime", "schemas"},
    "compiler": {"compiler", "runtime", "schemas"},
}
ENVIRONMENT_EDGE = Path("runtime/options.py")


def _files(part: str) -> list[Path]:
    return sorted((ROOT / part).rglob("*.py"))


def _imports(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


@pytest.mark.parametrize("part", ALLOWED)
def test_imports_go_one_way(part: str) -> None:
    found = []
    for path in _files(part):
        for name in _imports(ast.parse(path.read_text())):
            pieces = name.split(".")
            bare = pieces[0] in ALLOWED
            upward = pieces[0] == "hearth" and len(pieces) > 1 and pieces[1] not in ALLOWED[part]
            if bare or upward:
                found.append(f"{path.relative_to(ROOT)} imports {name}")
    assert _files(part)
    assert not found


def test_the_environment_is_read_in_one_place() -> None:
    found = []
    for part in ALLOWED:
        for path in _files(part):
            for node in ast.walk(ast.parse(path.read_text())):
                reads = isinstance(node, ast.Attribute) and node.attr in ("environ", "getenv")
                if reads and path.relative_to(ROOT) != ENVIRONMENT_EDGE:
                    found.append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert not found
