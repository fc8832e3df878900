"""docs/compiling.md names every key of a recipe and every option of `hearth compile`; its recipe is one."""

from __future__ import annotations

import inspect
import re
from dataclasses import fields
from pathlib import Path

from hearth.compiler.cli import compile_command
from hearth.schemas.recipe import Gate, Recipe, parse_recipe

PAGE = (Path(__file__).parent.parent / "docs/compiling.md").read_text()


def test_every_option_is_in_the_page() -> None:
    renamed = {"source": "SRC", "as_json": "--json"}
    given = inspect.signature(compile_command).parameters
    options = [renamed.get(name, f"--{name.replace('_', '-')}") for name in given]
    assert [option for option in options if option not in PAGE] == []


def test_every_key_is_in_the_page() -> None:
    keys = {each.name for each in fields(Recipe)} - {"gate"}
    keys |= {f"gate.{each.name}" for each in fields(Gate)}
    assert [key for key in sorted(keys) if f"`{key}`" not in PAGE] == []


def test_the_recipe_in_the_page_is_one() -> None:
    (text,) = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    assert parse_recipe(text).tensors == {"*down*": "int6_g64"}
