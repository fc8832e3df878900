"""Compiling with a calibration text: what is recorded, what a kill leaves, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from support.checkpoints import QWEN3, write_checkpoint
from support.command_line import hearth
from support.desk import SHAPE, TOKENIZER, Desk, make_desk

from hearth.compiler.calibrate.work import STATE, Work
from hearth.compiler.check.recompile import recompile
from hearth.compiler.conduct import Conduct
from hearth.compiler.job import Options, options
from hearth.compiler.pipeline import compile_model
from hearth.compiler.provenance import as_recipe
from hearth.runtime import load
from hearth.runtime.archive import open_archive
from hearth.runtime.verify import again
from hearth.schemas import sections
from hearth.schemas.errors import UsageError
from hearth.schemas.provenance import read_provenance
from hearth.schemas.recipe import make_recipe

TEXT = " ".join(f"w{number}" for number in np.random.default_rng(0).integers(1, SHAPE.vocab, 200))


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    made = make_desk(tmp_path_factory.mktemp("desk"))
    (made.folder / "text").write_text(TEXT)
    return made


def wanted(desk: Desk, output: Path, **values: object) -> Options:
    recipe = {
        "source": str(desk.source), "output": str(output), "method": "gptq", "target": "x86-64-v3",
        "calibration": str(desk.folder / "text"), "calibration_windows": 3, "calibration_context": 16,
    }  # fmt: skip
    return options(make_recipe({**recipe, **values}))


@pytest.mark.parametrize("method", ["gptq", "gptaq,importance", "lwc", "gptq,lwc"])
def test_an_archive_runs_and_says_what_it_was_calibrated_on(
    method: str, desk: Desk, tmp_path: Path
) -> None:
    given = wanted(desk, tmp_path / "m.har", method=method)
    compile_model(desk.source, tmp_path / "m.har", given)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.har"]
    record = read_provenance(open_archive(tmp_path / "m.har").section(sections.PROVENANCE))
    facts = record.calibration
    assert facts is not None
    assert (facts.windows, facts.context, facts.tokens, facts.ranges) == (3, 16, 48, "minmax")
    assert "onnxruntime" in record.packages
    assert as_recipe(record.recipe)["method"] == method
    assert load(tmp_path / "m.har").session().prefill([1, 2, 3]).shape == (SHAPE.vocab,)


def test_head_norms_are_measured_turned_and_tuned(desk: Desk, tmp_path: Path) -> None:
    """Of Qwen3: normed heads stay as they are while values and the stream are rotated; their gains are fitted."""
    source = write_checkpoint(tmp_path / "src", {**QWEN3, "vocab_size": SHAPE.vocab})
    (source / "tokenizer.json").write_text(json.dumps(TOKENIZER))
    path, given = tmp_path / "m.har", {"weights": "int4", "method": "gptq,quarot,tune"}
    compile_model(source, path, wanted(desk, path, **given))
    plain = tmp_path / "plain.har"
    compile_model(source, plain, options(make_recipe({
        "source": "s", "output": "o", "weights": "f32", "kv": "f32", "target": "x86-64-v3",
    })))  # fmt: skip
    found, exact = (load(each).session().prefill([1, 2, 3]) for each in (path, plain))
    assert np.corrcoef(found, exact)[0, 1] > 0.9


STATIC = {"weights": "int8", "activations": "static", "kv": "int8-static"}
COMBINED = {
    "static": {"method": "rtn", **STATIC},
    "auto": {
        "method": "gptq",
        **STATIC,
        "activations": "auto",
        "calibration_range": "least-squares",
    },
    "percentile": {"method": "quarot,gptaq", **STATIC, "calibration_range": "percentile"},
    "all": {"method": "gptq,lwc,importance,smoothquant,quarot,rotate-down", **STATIC},
    "tables": {"method": "smoothquant,gptq", "weights": "lut3", "activations": "none", "kv": "f32"},
    "tuned": {"method": "gptaq,tune", "weights": "nf4", "activations": "none"},
    "tuned integers": {"method": "rtn,tune", "activations": "static", "kv": "int8-static"},
    "peaks": {"method": "gptaq,peaks,tune", "weights": "int5"},
    "mixed": {"method": "gptq", "tensors": {"*down*": "int6_g64", "*o_proj*": "f16"}},
}


@pytest.mark.parametrize("case", COMBINED)
def test_methods_go_together(case: str, desk: Desk, tmp_path: Path) -> None:
    """Prefill and decode of the archive, against the float model: near enough to tell that nothing is swapped."""
    exact = wanted(desk, tmp_path / "f.har", method="rtn", weights="f32", kv="f32")
    compile_model(desk.source, tmp_path / "f.har", exact)
    compile_model(
        desk.source, tmp_path / "m.har", wanted(desk, tmp_path / "m.har", **COMBINED[case])
    )
    rows = []
    for name in ("f.har", "m.har"):
        session = load(tmp_path / name).session()
        rows.append((session.prefill([5, 9, 2, 30]), session.decode(7)))
    bound = 0.8 if case == "tables" else 0.35
    for one, other in zip(*rows, strict=True):
        assert np.abs(one - other).max() <= bound * np.abs(one).max()


class Killed(BaseException):
    """The process is gone."""


def killer(at: int) -> Callable[[Work, object], None]:
    """A `save` that stores the state and then, the at-th time, ends everything."""
    saves, count = Work.save, [0]

    def save(self: Work, state: object) -> None:
        saves(self, state)  # type: ignore[arg-type]
        count[0] += 1
        if count[0] == at:
            raise Killed

    return save


@pytest.mark.parametrize("at", [1, 2, 4, 6])
@pytest.mark.parametrize("method", ["gptq", "gptaq"])
def test_a_killed_compile_goes_on(
    at: int, method: str, desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Work, "due", lambda self: True)
    compile_model(desk.source, tmp_path / "w.har", wanted(desk, tmp_path / "w.har", method=method))
    given = wanted(desk, tmp_path / "m.har", method=method)
    with monkeypatch.context() as patch:
        patch.setattr(Work, "save", killer(at))
        with pytest.raises(Killed):
            compile_model(desk.source, tmp_path / "m.har", given)
    assert (tmp_path / "m.har.work" / STATE).exists() and not (tmp_path / "m.har").exists()
    stages: list[int] = []
    opens = Work.open
    monkeypatch.setattr(Work, "open", lambda self: _noted(opens(self), stages))
    compile_model(desk.source, tmp_path / "m.har", given)
    assert stages == [at]
    assert (tmp_path / "m.har").read_bytes() == (tmp_path / "w.har").read_bytes()
    assert not (tmp_path / "m.har.work").exists()


def _noted(state: object, stages: list[int]) -> object:
    stages.append(state.stages)  # type: ignore[attr-defined]
    return state


def test_damage_and_another_recipe_start_anew(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Work, "due", lambda self: True)
    given = wanted(desk, tmp_path / "m.har")
    compile_model(desk.source, tmp_path / "whole.har", given)
    stages: list[int] = []
    opens = Work.open
    rng = np.random.default_rng(1)
    for damage in range(4):
        with monkeypatch.context() as patch:
            patch.setattr(Work, "save", killer(4))
            with pytest.raises(Killed):
                compile_model(desk.source, tmp_path / "m.har", given)
        files = sorted((tmp_path / "m.har.work").iterdir())
        if damage < 3:
            path = files[(0, -1, len(files) // 2)[damage]]
            data = bytearray(path.read_bytes())
            data[int(rng.integers(len(data)))] ^= 1
            path.write_bytes(data)
        else:
            given = wanted(desk, tmp_path / "m.har", calibration_windows=2)
        with monkeypatch.context() as patch:
            patch.setattr(Work, "open", lambda self: _noted(opens(self), stages))
            compile_model(desk.source, tmp_path / "m.har", given)
        same = (tmp_path / "m.har").read_bytes() == (tmp_path / "whole.har").read_bytes()
        assert same == (damage < 3)
        (tmp_path / "m.har").unlink()
    assert stages == [0, 0, 0, 0]


def test_threads_decide_no_byte(desk: Desk, tmp_path: Path) -> None:
    for threads in (1, 2):
        output = tmp_path / f"{threads}.har"
        compile_model(desk.source, output, wanted(desk, output, method="gptaq"), Conduct(threads))
    assert (tmp_path / "1.har").read_bytes() == (tmp_path / "2.har").read_bytes()


def test_a_folder_of_something_else_is_left_alone(desk: Desk, tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "thesis").write_text("words")
    given = wanted(desk, tmp_path / "m.har", work=str(tmp_path / "precious"))
    with pytest.raises(UsageError) as error:
        compile_model(desk.source, tmp_path / "m.har", given)
    assert error.value.code == "usage.work"
    assert (tmp_path / "precious" / "thesis").exists()


REFUSED = {
    "no text": ({"calibration": "nowhere"}, "calibration.text"),
    "no window": ({"calibration_context": 4096}, None),
    "short": ({"calibration": "SHORT"}, "calibration.text"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_texts_that_do_not_do(case: str, desk: Desk, tmp_path: Path) -> None:
    values, code = REFUSED[case]
    (tmp_path / "short").write_text("w1 w2")
    values = {
        key: str(tmp_path / "short") if value == "SHORT" else value for key, value in values.items()
    }
    given = wanted(desk, tmp_path / "m.har", **values)
    if code is None:  # cut to the model's context
        compile_model(desk.source, tmp_path / "m.har", given)
        return
    with pytest.raises(UsageError) as error:
        compile_model(desk.source, tmp_path / "m.har", given)
    assert error.value.code == code
    assert not (tmp_path / "m.har").exists()


def test_a_text_is_asked_for(desk: Desk, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as error:
        wanted(desk, tmp_path / "m.har", calibration=None)
    assert error.value.code == "usage.calibration"


NOISY = {
    "gptq": {"method": "gptq"},
    "rotated": {"method": "gptq,quarot,rotate-down"},
    "tuned": {"method": "gptq,tune", "weights": "lut3"},
    "static": {"method": "rtn", **STATIC},
}


@pytest.mark.parametrize("case", NOISY)
def test_the_noise_of_a_calibrated_archive_needs_no_text(
    case: str, desk: Desk, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Codes stand for what was rotated: against the graph as it was before they would be all noise."""
    file = tmp_path / "m.har"
    compile_model(desk.source, file, wanted(desk, file, **NOISY[case]))
    capsys.readouterr()
    asked = ("noise", file, "--source", desk.source, "--text", desk.folder / "text")
    assert hearth(*asked, "--context", 16, "--json") == 0
    tensors = json.loads(capsys.readouterr().out)["tensors"]
    assert min(each["alone"] for each in tensors if each["alone"] is not None) > 8


def test_the_noise_of_a_smoothed_archive_needs_the_text(
    desk: Desk, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, text = tmp_path / "m.har", desk.folder / "text"
    compile_model(desk.source, file, wanted(desk, file, method="smoothquant", weights="int8"))
    asked = ("noise", file, "--source", desk.source, "--text", text, "--context", 16, "--json")
    assert hearth(*asked) == 2
    assert "usage.calibration" in capsys.readouterr().err
    assert hearth(*asked, "--calibration", text) == 0
    tensors = json.loads(capsys.readouterr().out)["tensors"]
    assert min(each["alone"] for each in tensors if each["alone"] is not None) > 30


def test_a_calibrated_archive_is_made_again_with_its_text(
    desk: Desk,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A record names the text by its hash alone."""
    monkeypatch.setattr(again, "installed", lambda: recompile)
    file = tmp_path / "m.har"
    compile_model(desk.source, file, wanted(desk, file, method="gptaq,tune", activations="auto"))
    asked = ("verify", file, "--source", desk.source)
    assert hearth(*asked, "--calibration", desk.folder / "text") == 0
    capsys.readouterr()
    assert hearth(*asked) == 2
    assert "hearth verify FILE --source SRC --calibration TEXT" in capsys.readouterr().err
    (desk.folder / "other").write_text(TEXT[20:])
    assert hearth(*asked, "--calibration", desk.folder / "other") != 0
