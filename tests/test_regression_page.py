"""docs/regression.md: its recipe is a recipe, its jobs are YAML, and the commands in them run."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from support.checkpoint import Shape, write_checkpoint
from support.command_line import declared, hearth

from hearth.schemas.recipe import Gate, parse_recipe

yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")
PAGE = (Path(__file__).parent.parent / "docs/regression.md").read_text()
SHAPE = Shape(hidden=16, layers=1, heads=2, kv_heads=1, ffn=24, vocab=40, context=64)


def blocks(kind: str) -> list[str]:
    found = re.findall(r"^```(\w*)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    return [text for each, text in found if each == kind]


def jobs() -> tuple[Any, Any]:
    github, gitlab = (yaml.safe_load(text) for text in blocks("yaml"))
    return github, gitlab


def commands() -> list[str]:
    """What the two jobs run."""
    github, gitlab = jobs()
    steps = github["jobs"]["regress"]["steps"]
    return [
        *(step["run"] for step in steps if "run" in step),
        *gitlab["regress"]["before_script"],
        *gitlab["regress"]["script"],
    ]


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with a recipe and its golden, as the page has it."""
    monkeypatch.chdir(tmp_path)
    write_checkpoint(tmp_path / "models/checkpoints/assistant", SHAPE)
    (tmp_path / "models/assistant.toml").write_text(blocks("toml")[0])
    return tmp_path


def test_the_recipe_is_one() -> None:
    recipe = parse_recipe(blocks("toml")[0], overrides={"output": "x.har"})
    assert (recipe.weights, recipe.group_size) == ("int4", 32)
    assert recipe.gate == Gate(0.2, 0.15, 0.75)


def test_the_jobs_upload_what_the_command_writes() -> None:
    github, gitlab = jobs()
    upload = github["jobs"]["regress"]["steps"][-1]
    assert upload["if"] == "always()"
    assert gitlab["regress"]["artifacts"]["when"] == "always"
    for path in (upload["with"]["path"], gitlab["regress"]["artifacts"]["reports"]["junit"]):
        assert all(path in text for text in commands() if text.startswith("hearth"))


def test_the_commands_run(models: Path) -> None:
    (models / "models/assistant.toml").write_text(blocks("toml")[0].partition("[gate]")[0])
    assert hearth(*shlex.split("regress models --update")) == 0
    ours = [text for text in commands() if text.startswith("hearth ")]
    assert len(ours) == 2
    for text in ours:
        assert hearth(*shlex.split(text)[1:]) == 0
    assert (models / "build/regress.xml").exists()
    assert (models / "build/kept/assistant.har").exists()


def test_other_commands_are_installations() -> None:
    for text in commands():
        assert text.startswith("hearth ") or text == 'pip install "hearth[compiler]"'


def test_the_lines_of_the_page_run(models: Path) -> None:
    """Every `hearth ...` line outside the jobs, in order; archives that they name are made first."""
    (models / "models/assistant.toml").write_text(blocks("toml")[0].partition("[gate]")[0])
    for name, kv in (("old", "int8"), ("new", "int8")):
        source = "models/checkpoints/assistant"
        assert hearth("compile", source, "-o", f"{name}.har", "--kv", kv) == 0
    lines = [
        line for text in blocks("") for line in text.splitlines() if line.startswith("hearth ")
    ]
    assert len(lines) >= 5
    for line in lines:
        words = shlex.split(line, comments=True)
        if "chat_template" in words:
            continue  # this checkpoint has none
        assert words[1] in declared()
        assert hearth(*words[1:]) == 0, line


def test_options_in_the_table_are_those_of_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert hearth("regress", "--help") == 0
    shown = capsys.readouterr().out
    options = re.findall(r"^\| `(--[a-z-]+)", PAGE, re.MULTILINE)
    assert options
    for option in options:
        assert option in shown
