"""Gates: the search for the smallest allocation that keeps them, on models of a model; then real archives."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from conftest import Archives
from support.command_line import hearth

from hearth.compiler.check.recompile import recompile
from hearth.compiler.judge.allocate import Allocation, Choice, Front, Tensor
from hearth.compiler.judge.gate import MARGIN, TRIALS, Decision, Measured, decide
from hearth.compiler.quantize.schemes import parse_scheme
from hearth.runtime import load
from hearth.runtime.archive import open_archive
from hearth.runtime.verify import again
from hearth.schemas import sections
from hearth.schemas.provenance import read_provenance
from hearth.schemas.recipe import Gate


def front(tensors: int = 30, schemes: int = 13) -> Front:
    """Each scheme a bit more: a quarter of the loss."""
    draw = np.random.default_rng(2)
    made = []
    for number in range(tensors):
        size, loss = int(draw.integers(1, 9)) * 1000, float(draw.uniform(0.1, 3))
        choices = [Choice(f"s{n}", size * (n + 2), loss * 4.0**-n) for n in range(schemes)]
        made.append(Tensor(f"t{number}", tuple(choices)))
    return Front(made)


def search(
    gate: Gate, scale: float = 1.0, base: float = 0.0, budget: float = float("inf")
) -> tuple[Decision, list[Allocation]]:
    """Where the real loss is `base` and `scale` times what is predicted."""
    asked = []

    def run(allocation: Allocation) -> Measured:
        asked.append(allocation)
        loss = base + scale * allocation.loss
        return Measured(allocation.nbytes / 1e5, np.expm1(loss), 1e-4, loss, 1e-5, 1 - loss**0.5, 0)

    return decide(front(), budget, gate, run), asked


@pytest.mark.parametrize("scale", [0.2, 1.0, 3.0, 30.0])
@pytest.mark.parametrize("base", [0.0, 0.004])
@pytest.mark.parametrize(
    "gate", [Gate(max_ppl_increase=0.01), Gate(max_ppl_increase=0.02, max_kld=0.01)]
)
def test_the_answer_keeps_the_gate_and_is_near_the_least(
    gate: Gate, scale: float, base: float
) -> None:
    decision, asked = search(gate, scale, base)
    taken = decision.taken
    assert taken is not None
    assert taken.measured.excess(gate) <= 1
    assert len(asked) == len(set(asked)) == len(decision.trials) <= TRIALS
    least = front().smallest((np.log1p(0.01) - MARGIN * 1e-4 - base) / scale)
    assert least is not None
    assert taken.allocation.nbytes <= least.nbytes * 1.03


def test_a_share_of_first_choices_drives_it_too() -> None:
    gate = Gate(max_ppl_increase=10.0, min_top1=0.9)
    decision, _ = search(gate)
    assert decision.taken is not None
    assert decision.taken.measured.top1 is not None
    assert 0.9 <= decision.taken.measured.top1 < 0.92


def test_bits_alone_take_the_least_loss_within_them() -> None:
    gate = Gate(max_bits=5.0)
    decision, asked = search(gate, budget=5e5)
    assert decision.taken is not None
    assert asked == [front().best(5e5)]


def test_layouts_that_take_more_than_was_counted_get_less() -> None:
    """The archive is measured, not believed: here it holds 2 % more than the table says."""
    gate, budget = Gate(max_bits=5.0), 5e5

    def run(allocation: Allocation) -> Measured:
        return Measured(1.02 * allocation.nbytes / 1e5, 0.0, 0.0)

    decision = decide(front(), budget, gate, run)
    assert [trial.met for trial in decision.trials] == [False, True]


def test_bits_and_perplexity_together() -> None:
    decision, _ = search(Gate(max_ppl_increase=0.05, max_bits=20.0), budget=2e6)
    assert decision.taken is not None
    assert decision.taken.measured.bits <= 20.0
    decision, asked = search(Gate(max_ppl_increase=0.001, max_bits=5.0), budget=5e5)
    assert decision.taken is None
    assert asked[-1] == front().best(5e5)


@pytest.mark.parametrize("gate", [Gate(max_ppl_increase=0.0), Gate(max_bits=1.0)])
def test_what_nothing_keeps_is_not_taken(gate: Gate) -> None:
    decision, asked = search(gate, base=1e-3, budget=1e4 if gate.max_bits else float("inf"))
    assert decision.taken is None
    assert len(asked) == len(decision.trials)


def test_no_limit_is_met_by_a_value_within_its_error() -> None:
    gate = Gate(max_ppl_increase=0.01)
    assert Measured(4.0, 0.0099, 0.0).excess(gate) < 1
    assert Measured(4.0, 0.0099, 0.001).excess(gate) > 1
    assert Measured(4.0, -0.01, 0.001).excess(gate) == 0
    assert Measured(4.1, 0.0, 0.0).excess(Gate(max_bits=4.0)) == float("inf")


@pytest.fixture(scope="module")
def story(archives: Archives) -> str:
    """What the demo model writes itself."""
    model = load(archives("hearthside", weights="f32", activations="none", context=256), threads=1)
    pieces = [
        "".join(model.generate(" ", max_tokens=240, temperature=1.0, seed=seed, ignore_eos=True))
        for seed in range(5)
    ]
    return "\n".join(pieces)


@pytest.fixture
def text(tmp_path: Path, story: str) -> Path:
    path = tmp_path / "calibration.txt"
    path.write_text(story)
    return path


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Learned tables take their time."""
    chosen = [parse_scheme(each) for each in ("int8", "int4_g32", "int3_g32", "int2_g64", "f16")]
    monkeypatch.setattr("hearth.compiler.judge.compile.CANDIDATES", chosen)


def compile_demo(archives: Archives, text: Path, *options: object) -> int:
    return hearth(
        "compile", archives.checkpoint("hearthside"), "-o", text.parent / "m.har", "--context", 64,
        "--calibration", text, "--calibration-windows", 3, "--calibration-context", 48,
        "--target", "x86-64-v3", "--json", *options,
    )  # fmt: skip


def test_max_bits_gives_the_best_it_can_and_records_it(
    archives: Archives,
    text: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert compile_demo(archives, text, "--max-bits", 4.5, "--activations", "dynamic") == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    (allocated,) = (line for line in lines if line["event"] == "allocated")
    compiled = lines[-1]
    assert 4.3 < compiled["packed"]["bits_per_weight"] <= 4.5
    assert allocated["taken"]["bits"] == pytest.approx(compiled["packed"]["bits_per_weight"])
    assert len({weight["scheme"] for weight in allocated["weights"]}) > 1
    archive = open_archive(text.parent / "m.har")
    section = archive.section(sections.PROVENANCE)
    record = read_provenance(section).recipe
    assert record["judged.max_bits"] == 4.5
    assert record["judged.increase"] == allocated["taken"]["increase"]
    chosen = {f"tensors.{weight['name']}": weight["scheme"] for weight in allocated["weights"]}
    assert chosen == {name: each for name, each in record.items() if name.startswith("tensors.")}
    assert sorted(path.name for path in text.parent.iterdir()) == ["calibration.txt", "m.har"]
    monkeypatch.setattr(again, "installed", lambda: recompile)
    source = archives.checkpoint("hearthside")
    assert hearth("verify", text.parent / "m.har", "--source", source) == 0


def test_an_impossible_gate_leaves_nothing(
    archives: Archives, text: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--max-ppl-increase", "0.001%", "--max-bits", 3, "--activations", "none")
    assert compile_demo(archives, text, *options) == 8
    printed = capsys.readouterr()
    assert json.loads(printed.err.splitlines()[-1])["code"] == "gate.missed"
    events = [json.loads(line) for line in printed.out.splitlines()]
    assert next(each for each in events if each["event"] == "allocated")["taken"] is None
    assert [path.name for path in text.parent.iterdir()] == ["calibration.txt"]


@pytest.mark.parametrize(
    ("options", "code"),
    [
        (("--calibration-windows", 40), "input.held_out"),
        (("--calibration", "absent"), "resource.unreadable"),
        (("--max-bits", 0.5), "arguments.limit"),
    ],
)
def test_refusals(
    archives: Archives,
    text: Path,
    capsys: pytest.CaptureFixture[str],
    options: tuple[object, ...],
    code: str,
) -> None:
    assert compile_demo(archives, text, "--max-bits", 4.5, *options) != 0
    assert json.loads(capsys.readouterr().err.splitlines()[-1])["code"] == code
    assert [path.name for path in text.parent.iterdir()] == ["calibration.txt"]


def test_a_gate_wants_a_text_and_a_decoder(
    archives: Archives, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "text").write_text("word " * 2000)
    output = tmp_path / "m.har"
    command = ("compile", archives.checkpoint("tiny"), "-o", output, "--max-bits", 5, "--json")
    for more, code in (
        ((), "usage.calibration"),
        (("--calibration", tmp_path / "text"), "usage.gate"),
    ):
        assert hearth(*command, *more) == 2
        assert json.loads(capsys.readouterr().err.splitlines()[-1])["code"] == code
    assert not output.exists()
