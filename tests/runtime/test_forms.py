"""`hearth run` and `generate` with a form of the answer, on the demo model."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support.command_line import hearth

from hearth.runtime import load
from hearth.runtime.grammar import JsonSchema, Regex
from hearth.runtime.model import Model

if TYPE_CHECKING:
    from conftest import Archives

SCHEMA = {"enum": [{"a": 1}, {"a": 2}, "three"]}
PROMPT = "Once upon a time"


@pytest.fixture(scope="module")
def file(archives: Archives) -> Path:
    return archives("hearthside", weights="int4")


@pytest.fixture(scope="module")
def model(file: Path) -> Model:
    return load(file, threads=2)


def test_generate_follows_a_form(model: Model) -> None:
    for seed in range(5):
        generation = model.generate(PROMPT, format=JsonSchema.of(SCHEMA), seed=seed)
        assert json.loads("".join(generation)) in SCHEMA["enum"]
        assert generation.finish_reason == "stop"


def test_a_form_without_an_end_stops_at_the_limit(model: Model) -> None:
    generation = model.generate(PROMPT, format=Regex("[ab]*"), max_tokens=7, ignore_eos=True)
    assert re.fullmatch("[ab]*", "".join(generation))
    assert generation.finish_reason in ("length", "stop")


def test_the_same_seed_gives_the_same_answer(model: Model) -> None:
    texts = {"".join(model.generate(PROMPT, format=Regex("[a-z ]{30}"), seed=3)) for _ in range(2)}
    assert len(texts) == 1 and len(texts.pop()) == 30


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--regex", "(yes|no)!"), "(yes|no)!"),
        (("--json-schema", "schema.json"), r'\{\s*"a"\s*:\s*[12]\s*\}|"three"'),
        (("--grammar", "grammar.gbnf"), "up up (and )?away"),
        (("--json-object", "--max-tokens", "4"), r"\{.*"),
    ],
)
def test_the_command_line(
    file: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    expected: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("schema.json").write_text(json.dumps(SCHEMA))
    Path("grammar.gbnf").write_text('root ::= "up up " ("and ")? "away"')
    assert hearth("run", file, PROMPT, "--seed", 1, *arguments) == 0
    assert re.fullmatch(expected, capsys.readouterr().out.removesuffix("\n"), re.DOTALL)


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("--json-object", "--regex", "a"), "arguments.form"),
        (("--json-schema", "no such file"), "arguments.form"),
        (("--regex", "("), "grammar.regex"),
    ],
)
def test_refusals(
    file: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], code: str
) -> None:
    assert hearth("run", file, PROMPT, *arguments) in (2, 5)
    assert code in capsys.readouterr().err
