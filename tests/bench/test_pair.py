"""The script that pairs benchmarks: values found in JSON lines, the order of rounds, ratios that say what is better."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def pair() -> Iterator[ModuleType]:
    """The script as a module."""
    spec = importlib.util.spec_from_file_location("pair", Path(__file__).parent / "pair.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["pair"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["pair"]


OURS = (
    "--system",
    "ours",
    "mine --json",
    "decode=results.0.rate.median",
    "ttft=results.0.ttft_s*1000",
)
THEIRS = ("--system", "theirs", "peer model", "decode=tg", "ttft=ttft_ms")


def test_rounds_and_ratios(pair: ModuleType, capsys: Capture) -> None:
    rates, order = iter([10, 12, 14]), []

    def run(system: object) -> str:
        order.append(system.name)  # type: ignore[attr-defined]
        if order[-1] == "ours":
            rate = next(rates)
            line = {"results": [{"rate": {"median": rate}, "ttft_s": 0.1}]}
            return "a log line\n" + json.dumps(line) + "\n"
        return '{"tg": 4, "ttft_ms": 200}\n{"tg": 8, "ttft_ms": 250}\n{"tg": 6}\n{broken\n'

    assert pair.main(["--rounds", "3", "--lower", "ttft", *OURS, *THEIRS, "--json"], run) == 0
    assert order == ["ours", "theirs", "theirs", "ours", "ours", "theirs"]
    found = json.loads(capsys.readouterr().out)
    lines = {(line["system"], line["metric"]): line for line in found["lines"]}
    assert lines["ours", "decode"]["median"] == 12
    assert lines["ours", "decode"]["ratio"] is None
    assert lines["theirs", "decode"]["median"] == 6
    assert lines["theirs", "decode"]["ratio"] == pytest.approx(
        {"median": 2.0, "least": 10 / 6, "most": 14 / 6}
    )
    assert lines["theirs", "ttft"]["ratio"]["median"] == pytest.approx(2.25)
    text = pair.as_text(found)
    assert "| decode | theirs | 6 (6-6) | 2.00 (1.67-2.33) |" in text


def test_programs_are_run(pair: ModuleType, capsys: Capture) -> None:
    program = f'{sys.executable} -c "print(\'{{\\"x\\": 2}}\')"'
    systems = [word for name in "ab" for word in ("--system", name, program, "rate=x")]
    assert pair.main(["--rounds", "1", *systems]) == 0
    assert "| rate | b | 2 (2-2) | 1.00 (1.00-1.00) |" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([*OURS], "two systems"),
        ([*OURS, *OURS], "different names"),
        ([*OURS, *THEIRS, "--rounds", "0"], "one round"),
        ([*OURS, "--system", "x", "cmd"], "METRIC=PATH"),
        ([*OURS, "--system", "x", "cmd", "rate"], "METRIC=PATH"),
        ([*OURS, "--system", "x", "cmd", "rate=a*b"], "no number"),
        ([*OURS, "--system", "x", "", "rate=a"], "empty"),
        (["--system", "y", "false", "r=a", "--system", "x", "true", "r=a"], "exit code 1"),
        (["--system", "y", "true", "r=a", "--system", "x", "true", "r=a"], "no number at a"),
        (["--system", "y", "/no/such/program", "r=a", *OURS], "cannot run"),
    ],
)
def test_mistakes_are_told(
    pair: ModuleType, capsys: Capture, arguments: list[str], words: str
) -> None:
    assert pair.main(arguments) == 2
    assert words in capsys.readouterr().err
