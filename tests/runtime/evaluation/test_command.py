"""`hearth eval` on a real checkpoint, and what it refuses."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import Archives
from support.command_line import hearth
from support.data import real
from support.lora import Peft, write_peft

from hearth.compiler.lora.add import add_adapter
from hearth.runtime import AdapterUse, load
from hearth.runtime.archive import open_archive
from hearth.runtime.evaluation import Adapted, answer, read_items
from hearth.schemas.lora import AdapterWeights

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
    assert found["against"]["perplexity"] == pytest.approx(alone["perplexity"], rel=1e-12)
    assert alone["tokens"] == 4 * 511
    assert 0 < found["against"]["kld"] < 0.1
    assert found["against"]["top1"] > 0.9
    assert abs(found["against"]["increase"]) < 0.05
    assert hearth("eval", coded, "--text", text, "--windows", 2, "--against", model) == 0
    assert "KL divergence" in capsys.readouterr().out


def test_overlapping_windows_and_the_form_of_base_2(
    archives: Archives, capsys: pytest.CaptureFixture[str]
) -> None:
    """After more context a token is less of a surprise."""
    model = archives("stories3M", weights="int8", activations="dynamic", kv="int8", context=512)
    found = []
    for stride in (256, 128):
        command = ("eval", model, "--text", real("text", TEXT), "--context", 256, "--windows", 9)
        assert hearth(*command, "--stride", stride, "--json") == 0
        found.append(json.loads(capsys.readouterr().out))
    plain, overlapping = found
    assert (plain["tokens"], overlapping["tokens"]) == (9 * 255, 255 + 8 * 128)
    assert plain["perplexity_base_2"] == pytest.approx(plain["perplexity"], rel=1e-12)
    assert 2 ** plain["bits_per_token"] == pytest.approx(plain["perplexity"], rel=1e-12)
    assert overlapping["perplexity"] < plain["perplexity"]


@pytest.fixture(scope="module")
def adapted(archives: Archives, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """stories3M with one adapter in two forms."""
    folder = tmp_path_factory.mktemp("adapted")
    plain = archives("stories3M", weights="int8", activations="dynamic", kv="int8", context=512)
    path = Path(shutil.copy(plain, folder / "m.har"))
    peft = write_peft(folder / "peft", archives.checkpoint("stories3M"), Peft(spread=0.1))
    for name, weights in (("small", AdapterWeights.INT8), ("exact", AdapterWeights.F32)):
        add_adapter(open_archive(path), name, peft, weights)
    return path


def test_an_adapter_is_evaluated_and_compared_with_another_form_of_it(
    adapted: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ("eval", adapted, "--text", real("text", TEXT), "--windows", 2, "--context", 128)
    found: dict[str, float] = {}
    for adapter in ("small", "small:0", "exact"):
        assert hearth(*command, "--adapter", adapter, "--json") == 0
        shown = json.loads(capsys.readouterr().out)
        assert shown["adapter"] == adapter
        found[adapter] = shown["perplexity"]
    assert hearth(*command, "--json") == 0
    plain = json.loads(capsys.readouterr().out)
    assert "adapter" not in plain and found["small:0"] == plain["perplexity"]
    assert abs(found["small"] / found["exact"] - 1) < 0.02
    assert abs(found["exact"] / plain["perplexity"] - 1) > 0.05
    both = (*command, "--adapter", "small", "--against", adapted, "--against-adapter", "exact")
    assert hearth(*both, "--json") == 0
    against = json.loads(capsys.readouterr().out)["against"]
    assert against["adapter"] == "exact" and 0 < against["kld"] < 0.02
    assert against["perplexity"] == pytest.approx(found["exact"], rel=1e-12)
    assert hearth(*both) == 0
    assert "against m.har with exact" in capsys.readouterr().out


def test_multiple_choice_with_an_adapter(adapted: Path, capsys: pytest.CaptureFixture[str]) -> None:
    items, model = real("text", "hellaswag-validation.txt.bz2"), load(adapted)
    reader = Adapted(model, AdapterUse("small"))
    found, plain = (
        answer(each, model.tokenizer, read_items(items, 6), lambda count: None)
        for each in (reader, model)
    )
    assert np.abs(found.nats - plain.nats).max() > 1
    assert (
        hearth("eval", adapted, "--hellaswag", items, "--items", 6, "--adapter", "small", "--json")
        == 0
    )
    shown = json.loads(capsys.readouterr().out)
    assert shown["adapter"] == "small"
    assert shown["hellaswag"]["accuracy_norm"] == found.accuracy_norm
    assert shown["hellaswag"]["accuracy"] == found.accuracy


def test_multiple_choice_against_another_archive(
    archives: Archives, capsys: pytest.CaptureFixture[str]
) -> None:
    model = archives("stories3M", weights="f32", activations="none", kv="f32", context=512)
    coded = archives("stories3M", weights="int8", activations="dynamic", kv="int8", context=512)
    items = real("text", "hellaswag-validation.txt.bz2")
    command = ("eval", coded, "--hellaswag", items, "--items", 8, "--against", model)
    assert hearth(*command, "--json") == 0
    against = json.loads(capsys.readouterr().out)["hellaswag"]["against"]
    assert against["same"] >= 0.75
    assert hearth("eval", model, "--hellaswag", items, "--items", 8, "--json") == 0
    alone = json.loads(capsys.readouterr().out)["hellaswag"]
    assert alone["accuracy_norm"] == against["accuracy_norm"]
    assert hearth(*command) == 0
    assert "same answers" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ((), "arguments.eval"),
        (("--text", "here", "--stride", 0), "arguments.eval"),
        (("--text", "here", "--context", 8, "--stride", 9), "arguments.eval"),
        (("--text", "here", "--windows", 0), "arguments.eval"),
        (("--text", "here", "--context", 100_000), "arguments.eval"),
        (("--text", "here", "--adapter", "nobody"), "arguments.adapter"),
        (("--text", "here", "--adapter", "small:much"), "arguments.adapter"),
        (("--text", "here", "--against-adapter", "small"), "arguments.eval"),
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
