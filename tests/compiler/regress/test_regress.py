"""`hearth regress`: every way a recipe can end, its report in text, JSON and JUnit, its exit codes."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest
from support.checkpoint import Shape, write_checkpoint
from support.command_line import hearth

from hearth.compiler.regress import run as regress_run

SHAPE = Shape(hidden=16, layers=1, heads=2, kv_heads=1, ffn=24, vocab=40, context=64)
RECIPE = 'source = "src"\ntarget = "x86-64-v3"\nweights = "{}"\n'
Capture = pytest.CaptureFixture[str]


class Bench:
    """A folder with the recipes `int4` and `int8` of a tiny checkpoint."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        write_checkpoint(folder / "src", SHAPE)
        self.write("int4", RECIPE.format("int4"))
        self.write("int8", RECIPE.format("int8"))

    def write(self, name: str, text: str) -> None:
        (self.folder / f"{name}.toml").write_text(text)

    def golden(self, name: str) -> Path:
        return self.folder / f"{name}.golden.json"

    def change_source(self) -> None:
        write_checkpoint(self.folder / "src", Shape(**{**vars(SHAPE), "seed": 1}))

    def regress(self, *options: object) -> int:
        return hearth("regress", self.folder, *options)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path / "recipes")


@pytest.fixture
def recorded(bench: Bench, capsys: Capture) -> Bench:
    assert bench.regress("--update") == 0
    capsys.readouterr()
    return bench


def statuses(bench: Bench, capsys: Capture, *options: object) -> tuple[int, dict[str, str]]:
    code = bench.regress("--json", *options)
    report = json.loads(capsys.readouterr().out)
    assert report["passed"] == (code == 0)
    return code, {each["name"]: each["status"] for each in report["recipes"]}


def test_the_first_run_writes_goldens_and_the_next_passes(bench: Bench, capsys: Capture) -> None:
    assert statuses(bench, capsys) == (8, {"int4": "new", "int8": "new"})
    assert not bench.golden("int4").exists()
    assert statuses(bench, capsys, "--update") == (0, {"int4": "updated", "int8": "updated"})
    held = bench.golden("int4").read_text()
    assert json.loads(held)["manifest"]["schemes"]["weights"] == "int4_g32"
    assert str(bench.folder) not in held
    assert bench.regress() == 0
    assert capsys.readouterr().out.startswith(f"{bench.folder}: 2 passed in")
    assert statuses(bench, capsys, "--update") == (0, {"int4": "passed", "int8": "passed"})
    assert bench.golden("int4").read_text() == held


def test_a_changed_source_is_told_part_by_part(recorded: Bench, capsys: Capture) -> None:
    recorded.change_source()
    assert recorded.regress() == 8
    told = capsys.readouterr().out
    assert "int4: changed: other manifest, tensors, golden, linears.vectors\n" in told
    assert "fingerprint" in told
    assert "model.layers.*.mlp.gate_proj+up_proj.weight" in told or "gate_proj+up_proj" in told
    assert recorded.regress("--update") == 0
    assert (
        "int4: updated: other manifest, tensors, golden, linears.vectors\n"
        in capsys.readouterr().out
    )
    assert recorded.regress() == 0


def test_a_broken_recipe_does_not_stop_the_others(recorded: Bench, capsys: Capture) -> None:
    recorded.write("aa", 'source = "nowhere"\ntarget = "x86-64-v3"\n')
    recorded.write("ab", 'source = "src"\nweigths = 1\n')
    recorded.write("ac", 'source = "src"\n')
    recorded.golden("int8").write_text("{")
    code, found = statuses(recorded, capsys)
    assert code == 8
    assert found == {
        "aa": "broken", "ab": "broken", "ac": "broken", "int4": "passed", "int8": "broken",
    }  # fmt: skip
    assert recorded.regress() == 8
    told = capsys.readouterr().out
    for text in ("checkpoint.not_found", "recipe.unknown_key", "regress.target", "regress.golden"):
        assert f"[{text}]" in told
    assert "4 broken" in told
    assert statuses(recorded, capsys, "--update", "--only", "int8")[1] == {"int8": "updated"}


def test_a_bug_is_told_with_its_traceback(
    recorded: Bench, capsys: Capture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    right = regress_run.compile_model

    def wrong(source: Path, output: Path, *arguments: object, **options: object) -> object:
        if output.stem == "int4":
            raise ZeroDivisionError("a \x00 bug")
        return right(source, output, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(regress_run, "compile_model", wrong)
    code, found = statuses(recorded, capsys, "--junit", tmp_path / "j.xml")
    assert (code, found) == (8, {"int4": "broken", "int8": "passed"})
    case = ElementTree.parse(tmp_path / "j.xml").find(".//testcase[@name='int4']/error")
    assert case is not None
    assert case.text is not None
    assert "Traceback" in case.text
    assert "a \ufffd bug" in case.text


def test_the_gate(recorded: Bench, capsys: Capture) -> None:
    recorded.write("int4", RECIPE.format("int4") + "[gate]\nmax_kld = 1e-9\n")
    recorded.write("int8", RECIPE.format("int8") + "[gate]\nmax_kld = 9\nmin_top1 = 0\n")
    assert recorded.regress("--json") == 8
    report = json.loads(capsys.readouterr().out)
    first, second = report["recipes"]
    assert (first["status"], second["status"]) == ("gate", "passed")
    assert "check.accuracy" in first["problem"]
    assert first["parts"] == []  # a gate decides no bytes
    assert first["accuracy"]["kld"] > 1e-9
    assert statuses(recorded, capsys, "--update")[0] == 8


def test_a_golden_without_its_recipe(recorded: Bench, capsys: Capture) -> None:
    (recorded.folder / "int8.toml").unlink()
    assert statuses(recorded, capsys) == (8, {"int4": "passed", "int8": "stale"})
    assert statuses(recorded, capsys, "--only", "int4")[0] == 0
    assert statuses(recorded, capsys, "--update") == (0, {"int4": "passed", "int8": "updated"})
    assert not recorded.golden("int8").exists()


def test_only_some_by_name(recorded: Bench, capsys: Capture) -> None:
    assert statuses(recorded, capsys, "--only", "int4") == (0, {"int4": "passed"})
    assert set(statuses(recorded, capsys, "--only", "i*8", "--only", "int4")[1]) == {"int4", "int8"}
    assert hearth("regress", recorded.folder, "--only", "nothing*") == 2
    assert "regress.nothing" in capsys.readouterr().err


def test_kept_archives_explain_the_next_change(
    recorded: Bench, capsys: Capture, tmp_path: Path
) -> None:
    keep = tmp_path / "deep/kept"
    assert recorded.regress("--keep", keep) == 0
    assert sorted(path.name for path in keep.iterdir()) == ["int4.har", "int8.har"]
    before = (keep / "int4.har").read_bytes()
    recorded.change_source()
    capsys.readouterr()
    assert recorded.regress("--keep", keep) == 8
    told = capsys.readouterr().out
    assert "against the archive that was kept:" in told
    assert "model.layers.0.mlp.gate_proj+up_proj.weight" in told
    assert (keep / "int4.har").read_bytes() == before
    assert (keep / "int4.new.har").exists()
    assert recorded.regress("--keep", keep, "--update", "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert {each["state"] for each in report["recipes"][0]["diff"]["sections"]} > {"equal"}
    assert (keep / "int4.har").read_bytes() != before
    assert not [path for path in keep.iterdir() if path.is_dir()]
    (keep / "int4.har").write_bytes(b"no archive")
    recorded.golden("int4").write_text(json.dumps({"version": 1, "sections": {}, "golden": {}}))
    assert recorded.regress("--keep", keep) == 8  # nothing to explain with, but no crash


def test_junit(recorded: Bench, tmp_path: Path, capsys: Capture) -> None:
    recorded.write("bad", "x = 1\n")
    recorded.change_source()
    assert (
        recorded.regress("--junit", tmp_path / "out/j.xml", "--only", "bad", "--only", "int4") == 8
    )
    root = ElementTree.parse(tmp_path / "out/j.xml").getroot()
    counts = {name: root.get(name) for name in ("tests", "failures", "errors")}
    assert counts == {"tests": "2", "failures": "1", "errors": "1"}
    failure = root.find(".//testcase[@name='int4']/failure")
    assert failure is not None
    assert failure.get("type") == "changed"
    assert "other manifest" in str(failure.get("message"))
    assert root.find(".//testcase[@name='bad']/error") is not None


def test_nothing_is_left_behind(recorded: Bench, tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    assert recorded.regress() == 0
    assert sorted(tmp_path.rglob("*")) == before


def test_progress_has_the_time_left(recorded: Bench, capsys: Capture) -> None:
    assert recorded.regress("--json") == 0
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert {line["title"] for line in lines} == {"regress"}
    assert (lines[-1]["units"], lines[-1]["total"], lines[-1]["left"]) == (2, 2, 0.0)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"version": 9}', "[" * 100_000, "\x00"])
def test_goldens_that_are_none(text: str, recorded: Bench, capsys: Capture) -> None:
    recorded.golden("int4").write_text(text)
    assert statuses(recorded, capsys) == (8, {"int4": "broken", "int8": "passed"})
