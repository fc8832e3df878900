"""`--prompt-cache`: a text or a file, part of the recipe, refused where it can do nothing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support.command_line import hearth

from hearth.compiler.check.recompile import recompile
from hearth.compiler.compile_options import prompt_text
from hearth.runtime.archive import open_archive
from hearth.runtime.archive.content import content_hash
from hearth.schemas import sections
from hearth.schemas.errors import UsageError
from hearth.schemas.provenance import read_provenance

if TYPE_CHECKING:
    from conftest import Archives


def test_a_file_or_a_text(tmp_path: Path) -> None:
    file = tmp_path / "system.txt"
    file.write_text("Be brief.\n")
    assert prompt_text(str(file)) == "Be brief.\n"
    assert prompt_text("Be brief.") == "Be brief."
    assert prompt_text("Be brief. " * 1000) == "Be brief. " * 1000
    assert prompt_text(None) is None
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError) as found:
        prompt_text(str(file))
    assert found.value.code == "usage.prompt_cache"


def test_the_same_archive_again(archives: Archives, tmp_path: Path) -> None:
    source, output = archives.checkpoint("hearthside"), tmp_path / "model.har"
    system = tmp_path / "system.txt"
    system.write_text("Be brief.")
    given = ["-o", str(output), "--context", "128", "--prompt-cache", str(system)]
    assert hearth("compile", str(source), *given) == 0
    system.write_text("Sing.")
    first = open_archive(output, "full")
    record = read_provenance(first.section(sections.PROVENANCE), str(output))
    assert record.recipe["prompt_cache"] == "Be brief."
    recompile(source, record, tmp_path / "again.har", 1)
    again = open_archive(tmp_path / "again.har", "full")
    assert first.section(sections.PROMPT_KV) == again.section(sections.PROMPT_KV)
    assert content_hash(first.directory.sections) == content_hash(again.directory.sections)


@pytest.mark.parametrize(("name", "text"), [("tiny", "Be brief."), ("hearthside", " \n")])
def test_what_can_do_nothing_is_refused(
    archives: Archives, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, text: str
) -> None:
    output = tmp_path / "model.har"
    source = archives.checkpoint(name)
    assert hearth("compile", str(source), "-o", str(output), "--prompt-cache", text) == 2
    assert "usage.prompt_cache" in capsys.readouterr().err
    assert not output.exists()


def test_a_prompt_beyond_the_context_is_refused(
    archives: Archives, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output, source = tmp_path / "model.har", archives.checkpoint("hearthside")
    given = ["-o", str(output), "--context", "32", "--prompt-cache", "Be brief. " * 50]
    assert hearth("compile", str(source), *given) == 5
    assert "input.context_full" in capsys.readouterr().err
    assert not output.exists()


def test_without_it_nothing_is_added(archives: Archives) -> None:
    entries = open_archive(archives("hearthside", weights="int4")).entries
    assert sections.PROMPT not in entries
    assert sections.PROMPT_KV not in entries
