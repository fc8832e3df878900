"""Parts are named causes first, and a section only where no part explains it."""

from __future__ import annotations

import pytest

from hearth.compiler.regress.parts import by_part
from hearth.runtime.diff.findings import Change

CASES = {
    "nothing": ("", ""),
    "a field and its section": ("manifest.family sections.manifest content", "manifest"),
    "a section alone": ("sections.tokenizer content nbytes", "tokenizer"),
    "weights": (
        "sections.weights/t sections.weights.index tensors.w golden.tokens[0].logits content",
        "tensors, golden",
    ),
    "weights whose tensors are equal": ("sections.weights/t content", "weights/t"),
    "other places follow": ("program.prefill.arena_nbytes offsets.golden", "program"),
    "other places alone": ("offsets.weights/t", "places of sections"),
    "in order": ("sections.kv_layout golden.a tensors.a program.a manifest.a format",
                 "format, manifest, program, tensors, golden, kv_layout"),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_parts(name: str) -> None:
    paths, expected = CASES[name]
    found = by_part(Change(path, 1, 2) for path in paths.split())
    assert ", ".join(found) == expected
