"""docs/errors.md lists every error code of the source with its exit code, and no other."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.source import ROOT, Trees, source_trees

from hearth.schemas import errors

CODE = re.compile(r"[a-z][a-z0-9_]*\.[a-z0-9_]+")
ROW = re.compile(r"^\| `([a-z0-9_.]+)` \| (\d) \| [^|]+ \| [^|]+ \|$", re.MULTILINE)
FAMILY = {
    name: kind.exit_code
    for name, kind in vars(errors).items()
    if isinstance(kind, type) and issubclass(kind, errors.HearthError)
}
# Functions that make an error from its code: the exit code, and what goes before the code.
MAKERS = {
    ("runtime/archive", "refusal"): (errors.ArchiveError.exit_code, "archive."),
    ("compiler/frontend/safetensors.py", "_error"): (errors.CheckpointError.exit_code, ""),
    ("runtime/sampling/settings.py", "_check"): (errors.UsageError.exit_code, ""),
    ("runtime/sampling/settings.py", "_check_amount"): (errors.UsageError.exit_code, ""),
    ("runtime/verify", "mismatch"): (errors.ArchiveError.exit_code, "verify."),
}


def calls(tree: ast.AST) -> Iterator[tuple[str, list[str]]]:
    """(name of the function, the texts its first argument may be)."""
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Name(id=name), args=[first, *_]):
                yield name, texts(first)
            case ast.Call(func=ast.Attribute(attr=name), args=[first, *_]):
                yield name, texts(first)


def texts(node: ast.expr) -> list[str]:
    """A literal, or those of `a if ... else b`; none where it is computed."""
    match node:
        case ast.Constant(value=str(text)):
            return [text]
        case ast.IfExp(body=one, orelse=other):
            return texts(one) + texts(other)
    return []


def codes_in(path: Path, tree: ast.Module) -> Iterator[tuple[str, int]]:
    makers = {name: made for (where, name), made in MAKERS.items() if str(path).startswith(where)}
    for name, found in calls(tree):
        exit_code, before = makers.get(name, (FAMILY.get(name), ""))
        codes = [before + text for text in found if CODE.fullmatch(before + text)]
        if exit_code is not None:
            yield from ((code, exit_code) for code in codes)


def in_page() -> list[tuple[str, int]]:
    page = (ROOT / "docs/errors.md").read_text()
    return [(code, int(exit_code)) for code, exit_code in ROW.findall(page)]


@pytest.fixture(scope="module")
def trees() -> Trees:
    return source_trees()


def test_every_code_is_in_the_page_and_no_other(trees: Trees) -> None:
    page = in_page()
    source = {found for path, tree in trees.items() for found in codes_in(path, tree)}
    assert len(page) == len(set(page)), "a code is listed twice"
    assert source - set(page) == set(), "add these to docs/errors.md"
    assert set(page) - source == set(), "docs/errors.md lists what no source raises"


def test_every_error_gives_its_code_as_a_literal(trees: Trees) -> None:
    """So that the page can be checked; functions that make errors are named in MAKERS."""
    makers = {name for _, name in MAKERS}
    found = [
        f"{path}: {function.name}"
        for path, tree in trees.items()
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef) and function.name not in makers
        for name, codes in calls(function)
        if name in FAMILY and not codes
    ]
    assert not found


def test_every_error_says_what_was_expected_or_what_to_do(trees: Trees) -> None:
    silent = [
        f"{path}:{node.lineno}"
        for path, tree in trees.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in FAMILY
        and not {keyword.arg for keyword in node.keywords} & {"expected", "remedy"}
    ]
    assert silent == []
