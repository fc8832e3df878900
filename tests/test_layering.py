"""Imports go one way: compiler -> runtime -> schemas; nothing reads the environment below the command line."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.source import Trees, source_trees

ALLOWED = {
    "schemas": {"schemas"},
    "runtime": {"runtime", "schemas"},
    "compiler": {"compiler", "runtime", "schemas"},
}
ENVIRONMENT_EDGE = Path("runtime/options.py")


def _imports(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


@pytest.fixture(scope="module")
def trees() -> Trees:
    return source_trees()


@pytest.mark.parametrize("part", ALLOWED)
def test_imports_go_one_way(trees: Trees, part: str) -> None:
    found = []
    files = {path: tree for path, tree in trees.items() if path.parts[0] == part}
    for path, tree in files.items():
        for name in _imports(tree):
            pieces = name.split(".")
            bare = pieces[0] in ALLOWED
            upward = pieces[0] == "hearth" and len(pieces) > 1 and pieces[1] not in ALLOWED[part]
            if bare or upward:
                found.append(f"{path} imports {name}")
    assert files
    assert not found


def test_the_environment_is_read_in_one_place(trees: Trees) -> None:
    found = []
    for path, tree in trees.items():
        for node in ast.walk(tree):
            reads = isinstance(node, ast.Attribute) and node.attr in ("environ", "getenv")
            if reads and path != ENVIRONMENT_EDGE:
                found.append(f"{path}:{node.lineno}")
    assert not found
