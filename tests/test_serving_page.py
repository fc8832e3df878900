"""docs/serving.md names every option of `hearth serve`, every field of OpenAI's interface and every metric."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

PAGE = (Path(__file__).parent.parent / "docs/serving.md").read_text()


def test_every_field_is_in_the_page() -> None:
    from hearth.runtime.serving.openai.requests import CHAT, COMPLETION, EMBEDDING

    names = {field.name for table in (CHAT, COMPLETION, EMBEDDING) for field in table}
    assert [name for name in sorted(names) if f"`{name}`" not in PAGE] == []


def test_every_option_is_in_the_page() -> None:
    from hearth.runtime.commands.serve import serve_command

    names = [name.replace("_", "-") for name in inspect.signature(serve_command).parameters]
    assert [name for name in names if name != "files" and f"`--{name}`" not in PAGE] == []


@pytest.mark.parametrize("module", ["metrics", "edge", "refusals"])
def test_every_metric_is_in_the_page(module: str) -> None:
    from importlib import import_module

    source = inspect.getsource(import_module(f"hearth.runtime.serving.{module}"))
    names = set(re.findall(r'"(hearth_[a-z_]+)"', source))
    assert [name for name in names if f"`{name}" not in PAGE] == []
