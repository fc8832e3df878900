"""The command: verbs found lazily, errors as messages with their exit codes, bugs with their traceback."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support import command_line
from support.checkpoint import Shape, write_checkpoint
from support.command_line import declared, hearth, process, project

from hearth.runtime import cli
from hearth.schemas import errors

if TYPE_CHECKING:
    from conftest import Archives


def fails_for_the_user(as_json: bool = False) -> None:
    """Fail."""
    raise errors.InputError("input.test", "found this", expected="that", remedy="do so")


def fails_by_a_bug() -> None:
    """Fail."""
    raise KeyError("a bug")


def is_interrupted() -> None:
    """Be interrupted."""
    raise KeyboardInterrupt


def lacks_a_package() -> None:
    """Import what is not there."""
    raise ModuleNotFoundError("No module named 'onnx'", name="onnx.helper")


def lacks_a_module_of_its_own() -> None:
    """Import what should be there."""
    raise ModuleNotFoundError("No module named 'mistake'", name="mistake")


def run(function: Callable[..., None], *arguments: str) -> int:
    class Loaded(EntryPoint):
        def load(self) -> Callable[..., None]:
            return function

    verb = Loaded("verb", f"{__name__}:{function.__name__}", cli.GROUP)
    return cli.run(["verb", *arguments], {"verb": verb})


def test_a_user_error_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(fails_for_the_user) == 5
    shown = capsys.readouterr()
    assert shown.err == "hearth: found this; expected that; do so [input.test]\n"
    assert shown.out == ""


def test_a_bug_keeps_its_traceback() -> None:
    with pytest.raises(KeyError, match="a bug"):
        run(fails_by_a_bug)


def test_an_interrupt_is_130() -> None:
    assert run(is_interrupted) == 130


def test_a_missing_package_names_the_extra(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(lacks_a_package) == 7
    assert 'pip install "hearth[compiler]"' in capsys.readouterr().err
    with pytest.raises(ModuleNotFoundError, match="mistake"):
        run(lacks_a_module_of_its_own)


@pytest.mark.parametrize("arguments", [("--wrong",), ("surplus",)])
def test_wrong_arguments_are_2(
    arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(fails_for_the_user, *arguments) == 2
    assert "arguments.usage" in capsys.readouterr().err


def test_the_extras_are_those_of_the_project() -> None:
    extras = project()["optional-dependencies"]
    assert isinstance(extras, dict)
    found = {requirement.split(">")[0] for requirement in extras["compiler"]}
    assert {name for name, extra in cli.EXTRAS.items() if extra == "compiler"} == found


def test_help_lists_the_verbs_without_importing_them() -> None:
    code = (
        "import sys; from support.command_line import hearth\n"
        "assert hearth('--help') == 0\n"
        "loaded = {'typer', 'numpy', 'hearth.compiler.cli', 'hearth.runtime.commands.run'}\n"
        "assert not loaded & set(sys.modules), loaded & set(sys.modules)"
    )
    found = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=command_line.ROOT / "tests",
        check=True,
        timeout=60,
    )
    for name in declared():
        assert f"\n  {name} " in found.stdout
    assert "Run a compiled model: continue a prompt" in found.stdout


SPEAKING = ("serve",)  # it answers while it runs: nothing is left to print at the end
VERBS_OF = {"lora": ("add", "list", "remove")}


def test_the_verbs_show_their_options(capsys: pytest.CaptureFixture[str]) -> None:
    for name in declared():
        for verb in VERBS_OF.get(name, ()):
            assert hearth(name, verb, "--help") == 0
            assert "--json" in capsys.readouterr().out
        assert hearth(name, "--help") == 0
        assert name in SPEAKING or name in VERBS_OF or "--json" in capsys.readouterr().out


def test_version_and_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert hearth("--version") == 0
    assert capsys.readouterr().out.startswith("hearth 0.")
    assert hearth() == 2
    assert hearth("no-such-verb", "--json") == 2
    shown = json.loads(capsys.readouterr().err)
    assert (shown["code"], shown["exit_code"]) == ("arguments.command", 2)


@pytest.fixture(scope="module")
def archive(archives: Archives) -> str:
    return str(archives("hearthside", weights="int4"))


def test_run_prints_the_text(archive: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert hearth("run", archive, "Once upon a time", "--max-tokens", 12, "--stats") == 0
    shown = capsys.readouterr()
    assert len(shown.out.split()) >= 4
    assert shown.out.endswith("\n")
    for word in ("TTFT", "prefill", "decode", "tokens/s"):
        assert word in shown.err


def test_run_as_json(archive: str, capsys: pytest.CaptureFixture[str]) -> None:
    command = (
        "run",
        archive,
        "Lily",
        "--max-tokens",
        5,
        "--temperature",
        0.9,
        "--seed",
        4,
        "--json",
    )
    assert hearth(*command) == 0
    first = json.loads(capsys.readouterr().out)
    assert (len(first["tokens"]), first["finish_reason"], first["seed"]) == (5, "length", 4)
    assert hearth(*command) == 0
    assert json.loads(capsys.readouterr().out)["tokens"] == first["tokens"]


def test_run_biases_tokens_and_gives_log_probabilities(
    archive: str, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ("run", archive, "403", "--ids", "--json", "--max-tokens", 2, "--logprobs", 3)
    assert hearth(*command, "--logit-bias", "17=1000", "--penalty-window", 8) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["tokens"] == [17, 17]
    assert [len(one["top"]) for one in shown["logprobs"]] == [3, 3]
    assert all(one["logprob"] <= one["top"][0][1] < 0 for one in shown["logprobs"])
    assert hearth("run", archive, "403", "--ids", "--logprobs", 3) == 2  # which prints none


def test_run_reads_ids_and_shows_ids(archive: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert hearth("run", archive, "0, 403 407", "--ids", "--max-tokens", 3) == 0
    assert len([int(word) for word in capsys.readouterr().out.split()]) == 3


def test_run_reads_standard_input(archive: str) -> None:
    given = process("run", archive, "Once upon a time", "--max-tokens", 8)
    piped = process("run", archive, "--max-tokens", 8, input="Once upon a time\n")
    dashed = process("run", archive, "-", "--max-tokens", 8, input="Once upon a time")
    assert given.returncode == 0, given.stderr
    assert given.stdout == piped.stdout == dashed.stdout


def test_run_with_any_isa_and_threads_prints_the_same(
    archive: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def text(*options: object) -> str:
        assert hearth("run", archive, "Lily", "--max-tokens", 20, *options) == 0
        return capsys.readouterr().out

    plain = text()
    assert text("--isa", "portable", "--threads", 1) == plain
    monkeypatch.setenv("HEARTH_ISA", "portable")
    monkeypatch.setenv("HEARTH_THREADS", "3")
    assert text() == plain


def test_inspect_tells_what_is_inside(archive: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert hearth("inspect", archive, "--json") == 0
    facts = json.loads(capsys.readouterr().out)
    weights, memory = facts["weights"], facts["memory"]
    assert weights["bits_per_weight"] == 8 * weights["nbytes"] / weights["parameters"]
    assert memory["kv_nbytes_per_position"] * facts["manifest"]["context"] == memory["kv_nbytes"]
    for name, entry in facts["entries"].items():
        chosen = facts["kernels"]["entries"][name]
        assert sum(entry["by_op"].values()) == sum(chosen.values()) == entry["commands"]
    assert sum(section["nbytes"] for section in facts["sections"]) < facts["file_nbytes"]
    assert hearth("inspect", archive, "--check", "full") == 0
    text = capsys.readouterr().out
    for word in (
        "sha256",
        "bits/weight",
        "entry prefill",
        "arena",
        "per position",
        "kernels on this",
    ):
        assert word in text


def test_a_closed_pipe_is_quiet(archive: str) -> None:
    shell = f"'{sys.executable}' '{command_line.__file__}' run '{archive}' Lily --ignore-eos; echo $? >&2"
    found = subprocess.run(
        ["bash", "-c", f"({shell}) | head -c 1"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert found.stderr.strip() == "141"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_disk_behind_stdout_is_6(archive: str) -> None:
    shell = f"'{sys.executable}' '{command_line.__file__}' run '{archive}' Lily --max-tokens 3 >/dev/full"
    found = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, timeout=60)
    assert (found.returncode, "resource.output" in found.stderr) == (6, True)
    assert "Traceback" not in found.stderr


def test_ctrl_c_while_generating_is_130(tmp_path: Path) -> None:
    """A long context and no stop: it goes on until the signal comes."""
    source, path = write_checkpoint(tmp_path / "source", Shape(context=30_000)), tmp_path / "m.har"
    assert hearth("compile", source, "-o", path, "--context", 30_000, "--json") == 0
    command = [sys.executable, command_line.__file__, "run", path, "1 2", "--ids", "--ignore-eos"]
    running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert running.stdout is not None
    assert running.stderr is not None
    assert running.stdout.read(1), running.stderr.read()
    time.sleep(0.05)
    running.send_signal(signal.SIGINT)
    assert running.wait(30) == 130
    assert running.stderr.read() == b""
    running.stdout.close()
    running.stderr.close()
