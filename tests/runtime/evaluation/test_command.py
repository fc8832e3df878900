"""`hearth eval` on a real checkpoint, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import Archives
from support.command_line import hearth
from support.data import real

TEXT = "tinystories-eval.txt"


def test_eval_of_a_real_checkpoint_against_its_float_original(
    archives: Archives, capsys: pytest.CaptureFixture[str]
) -> None:
    """In f32 the same with and without a model beside it; int8 near it."""
    model = archives("stories3M", weights="f32", activations="none", kv="f32", context=512)
    coded = archives("stories3M", weights="int8", activations="dynamic", kv="int8", context=512)
    text = real("text", TEXT)
    command = ("eval", coded, "--text", text, "--windows", 4, "--against", model, "--json")
    assert hearth(*command) == 0
    found = json.loads(capsys.readouterr().out)
    assert hearth("eval", model, "--text", text, "--windows", 4, "--json") == 0
    alone = json.loads(capsys.readouterr().out)
    assert found["against"]["perplexity"] == alone["perplexity"]
    assert alone["tokens"] == 4 * 511
    assert 0 < found["against"]["kld"] < 0.1
    assert found["against"]["top1"] > 0.9
    assert abs(found["against"]["increase"]) < 0.05
    assert hearth("eval", coded, "--text", text, "--windows", 2, "--against", model) == 0
    assert "KL divergence" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ((), "arguments.eval"),
        (("--against", "x.har"), "arguments.eval"),
        (("--text", "here", "--windows", 0), "arguments.eval"),
        (("--text", "here", "--context", 100_000), "arguments.eval"),
        (("--text", "absent"), "resource.unreadable"),
        (("--text", "binary"), "input.text"),
        (("--text", "short"), "input.too_short"),
        (("--hellaswag", "here"), "input.items"),
        (("--hellaswag", "absent"), "resource.unreadable"),
        (("--hellaswag", "here.bz2"), "resource.unreadable"),
    ],
)
def test_refusals(
    archives: Archives,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    options: tuple[object, ...],
    code: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here").write_text("Once upon a time there was a fox. " * 100)
    (tmp_path / "here.bz2").write_text("not packed")
    (tmp_path / "short").write_text("Once")
    (tmp_path / "binary").write_bytes(b"abc\xff\xfe")
    assert hearth("eval", archives("hearthside"), *options, "--json") != 0
    assert json.loads(capsys.readouterr().err.splitlines()[-1])["code"] == code
