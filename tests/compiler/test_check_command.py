"""`hearth compile --check`: source and archive on the same inputs, and limits that leave no archive when missed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.command_line import hearth
from support.desk import SHAPE, Desk, make_desk

from hearth.compiler.check.inputs import WINDOW, CheckOptions, windows
from hearth.runtime.archive import open_archive
from hearth.schemas.errors import HearthError


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    """Without a tokenizer: its few words would make one token of every text."""
    made = make_desk(tmp_path_factory.mktemp("desk"))
    (made.source / "tokenizer.json").unlink()
    return made


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "m.har"


def compiled(desk: Desk, output: Path, *options: object) -> int:
    return hearth("compile", desk.source, "-o", output, "--target", "x86-64-v3", *options)


def events(capsys: pytest.CaptureFixture[str]) -> dict[str, dict[str, Any]]:
    found = map(json.loads, capsys.readouterr().out.splitlines())
    return {event["event"]: event for event in found}


FLOATS = ("--weights", "f32", "--kv", "f32")


def test_floats_agree_with_the_source(
    desk: Desk, output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Different sums in f32 and nothing else: K = 24 terms and a handful of layers."""
    assert compiled(desk, output, *FLOATS, "--check", "--check-tokens", 40, "--json") == 0
    accuracy = events(capsys)["accuracy"]
    assert accuracy["total"]["rows"] == 40
    assert accuracy["total"]["top1"] == 1.0
    assert accuracy["total"]["relative"] < 1e-5
    assert accuracy["total"]["kld_mean"] < 1e-9
    assert [each["rows"] for each in accuracy["inputs"]] == [40]


def test_coarse_weights_are_further_away_and_said_to_be(
    desk: Desk, output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    errors = []
    for weights in ("int8", "int4"):
        assert compiled(desk, output, "--weights", weights, "--check", "--json") == 0
        errors.append(events(capsys)["accuracy"]["total"]["kld_mean"])
    assert 0 < errors[0] < errors[1]


def test_people_get_a_table(desk: Desk, output: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert compiled(desk, output, "--check", "--check-tokens", 70) == 0
    lines = capsys.readouterr().out.splitlines()
    head = next(line for line in lines if line.startswith("compared with the source"))
    assert all(title in head for title in ("rows", "max error", "KL mean", "top-1"))
    assert "cosine" not in head
    assert any(line.startswith("all ") and "70" in line for line in lines)


@pytest.mark.parametrize(
    "limit", [("--max-kld", 1e-9), ("--max-error", 1e-9), ("--min-top1", 1)], ids=str
)
def test_a_missed_limit_leaves_no_archive(
    limit: tuple[str, float], desk: Desk, output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--weights", "int4", "--check-tokens", 64, *limit)
    output.write_bytes(b"an older one")
    assert compiled(desk, output, *options) == 8
    said = capsys.readouterr()
    assert limit[0].removeprefix("--").replace("-", "_") in said.err
    assert "[check.accuracy]" in said.err
    assert "compared with the source" in said.out, "the figures are told all the same"
    assert output.read_bytes() == b"an older one"
    assert [path.name for path in output.parent.iterdir()] == ["m.har"]


def test_a_limit_of_the_recipe_is_kept(
    desk: Desk, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tmp_path / "r.toml"
    recipe.write_text(
        f'source = "{desk.source}"\noutput = "m.har"\nweights = "int4"\n[gate]\nmax_kld = 1e-9\n'
    )
    assert hearth("compile", "--recipe", recipe) == 8
    assert hearth("compile", "--recipe", recipe, "--max-kld", 100) == 0
    assert (tmp_path / "m.har").exists()


def test_the_comparison_changes_no_byte(desk: Desk, tmp_path: Path) -> None:
    assert compiled(desk, tmp_path / "a.har") == 0
    assert compiled(desk, tmp_path / "b.har", "--check", "--max-kld", 100) == 0
    assert (tmp_path / "a.har").read_bytes() == (tmp_path / "b.har").read_bytes()


def test_a_text_of_the_users(
    tmp_path: Path, output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = tmp_path / "text.txt"
    text.write_text("w1 w2 w3 w4 w5")
    desk = make_desk(tmp_path / "desk")
    capsys.readouterr()
    assert compiled(desk, output, "--check-text", text, "--json") == 0
    assert events(capsys)["accuracy"]["total"]["rows"] == 5


def test_a_text_without_a_tokenizer(desk: Desk, tmp_path: Path, output: Path) -> None:
    (tmp_path / "t").write_text("w1")
    assert compiled(desk, output, "--check-text", tmp_path / "t") == 5


BAD = {
    "no_tokens": (("--check", "--check-tokens", 0), "arguments.check_tokens"),
    "negative_limit": (("--max-kld", -1), "arguments.limit"),
    "a_share_above_one": (("--min-top1", 2), "arguments.limit"),
    "no_number": (("--max-error", "nan"), "arguments.limit"),
}


@pytest.mark.parametrize("case", BAD.values(), ids=BAD)
def test_bad_options_are_told(
    case: tuple[tuple[object, ...], str],
    desk: Desk,
    output: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    options, code = case
    assert compiled(desk, output, *options) == 2
    assert f"[{code}]" in capsys.readouterr().err
    assert not output.exists()


def test_an_empty_text_and_one_that_is_no_text(tmp_path: Path, output: Path) -> None:
    desk = make_desk(tmp_path / "desk")
    assert compiled(desk, output, "--check-text", tmp_path / "t") == 2
    for content in (b"", b"  \n", b"\xff\xfe\x00"):
        (tmp_path / "t").write_bytes(content)
        assert compiled(desk, output, "--check-text", tmp_path / "t") == 2


def test_ids_are_drawn_where_there_is_no_tokenizer() -> None:
    prompts = windows(CheckOptions(tokens=2 * WINDOW + 5), None, vocab=50, context=1000)
    assert [len(prompt.ids) for prompt in prompts] == [WINDOW, WINDOW, 5]
    assert all(0 <= each < 50 for prompt in prompts for each in prompt.ids)
    again = windows(CheckOptions(tokens=2 * WINDOW + 5), None, vocab=50, context=1000)
    assert all(np.array_equal(a.ids, b.ids) for a, b in zip(prompts, again, strict=True))
    with pytest.raises(HearthError, match="tokenizer"):
        windows(CheckOptions(Path("x")), None, 50, 100)


def test_a_short_context_gives_short_windows() -> None:
    prompts = windows(CheckOptions(tokens=10), None, vocab=50, context=4)
    assert [len(prompt.ids) for prompt in prompts] == [4, 4, 2]


def test_the_archive_is_whole(desk: Desk, output: Path) -> None:
    assert compiled(desk, output, "--check") == 0
    assert open_archive(output, "full").manifest.context == SHAPE.context
