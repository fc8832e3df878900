"""The project's own goldens: recipes of tests/goldens give the recorded archives; its graphs are made as recorded.

After a change that is meant: `hearth regress tests/goldens --update`, and the diff of the goldens goes into the commit.
"""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest
from support.command_line import hearth

FOLDER = Path(__file__).parent / "goldens"
RECIPES = sorted(path.stem for path in FOLDER.glob("*.toml"))


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_gives_what_its_golden_says(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    code = hearth("regress", FOLDER, "--only", name)
    assert code == 0, capsys.readouterr().out


def test_every_recipe_has_a_golden_and_every_golden_a_recipe() -> None:
    assert len(RECIPES) >= 10
    held = {path.name.removesuffix(".golden.json") for path in FOLDER.glob("*.golden.json")}
    assert held == set(RECIPES)


def test_the_graphs_are_those_their_script_makes() -> None:
    made = runpy.run_path(str(FOLDER / "make_graphs.py"))["graphs"]()
    held = {path.name: path.read_bytes() for path in (FOLDER / "graphs").iterdir()}
    assert made == held
    assert sum(map(len, held.values())) < 64 << 10
