"""Whatever the records of an archive say, with whole hashes: verification ends with a report, and runs what it may."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgpack
import pytest
from conftest import Archives
from hypothesis import given, settings
from hypothesis import strategies as st
from support.forging import opened, replaced, rewritten
from support.mutations import calm, mutated

from hearth.runtime.verify.report import Report
from hearth.schemas import sections
from hearth.schemas.codec import encode, loads
from hearth.schemas.golden import Golden

Run = Callable[..., Report]
FEW = settings(calm, max_examples=30)


@pytest.fixture(scope="module")
def tiny(archives: Archives) -> Path:
    return archives("tiny", weights="int8", context=24)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


@FEW
@given(data=st.data())
def test_any_golden(tiny: Path, folder: Path, run: Run, data: st.DataObject) -> None:
    golden = loads(Golden, opened(tiny).section(sections.GOLDEN), "golden")
    changed: Any = data.draw(mutated(encode(golden)))
    try:
        packed = msgpack.packb(changed)
    except (OverflowError, ValueError):  # an integer that msgpack cannot hold
        return
    forged = rewritten(tiny, folder / "f.har", {sections.GOLDEN: replaced(packed)})
    report = run(forged)
    codes = {failure.code for failure in report.failures}
    assert codes <= {
        "archive.schema", "verify.golden", "verify.tokenizer", "verify.chat_template",
        "verify.provenance",
    }  # fmt: skip


@FEW
@given(content=st.binary(max_size=60))
@pytest.mark.parametrize("section", [sections.GOLDEN, sections.PROVENANCE, sections.PROGRAM])
def test_any_bytes(tiny: Path, folder: Path, run: Run, section: str, content: bytes) -> None:
    forged = rewritten(tiny, folder / "f.har", {section: replaced(content)})
    assert {failure.code for failure in run(forged).failures} == {"archive.schema"}


@FEW
@given(data=st.data())
def test_any_program(tiny: Path, folder: Path, run: Run, data: st.DataObject) -> None:
    """Refused, or found by the golden vectors, or harmless; never a crash."""
    plain = msgpack.unpackb(opened(tiny).section(sections.PROGRAM))
    changed: Any = data.draw(mutated(plain))
    try:
        packed = msgpack.packb(changed)
    except (OverflowError, ValueError):
        return
    report = run(rewritten(tiny, folder / "f.har", {sections.PROGRAM: replaced(packed)}))
    codes = {failure.code.partition(".")[0] for failure in report.failures}
    assert codes <= {"archive", "verify"}
