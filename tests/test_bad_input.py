"""Bad input gives its documented error: the code, the exit code, one line, no traceback, no file left behind.

Every case runs `hearth` as a shell would; docs/errors.md lists the codes.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from support import command_line
from support.checkpoint import Shape, write_checkpoint
from support.command_line import hearth

from hearth.compiler import memory
from hearth.runtime.archive import files, format

SHAPE = Shape(hidden=16, layers=1, heads=2, kv_heads=1, ffn=24, vocab=40, context=64)
Arguments = Sequence[object]


@dataclass(frozen=True)
class Desk:
    """A folder with a good checkpoint `src`, a good archive `m.har`, and ways to spoil them."""

    folder: Path

    @property
    def source(self) -> Path:
        return self.folder / "src"

    @property
    def archive(self) -> Path:
        return self.folder / "m.har"

    def compile(self, *options: object) -> Arguments:
        """The arguments that compile the checkpoint."""
        return ("compile", self.source, "-o", self.folder / "out.har", *options)

    def config(self, **changes: object) -> Arguments:
        path = self.source / "config.json"
        values = json.loads(path.read_text()) | changes
        path.write_text(json.dumps({k: v for k, v in values.items() if v is not None}))
        return self.compile()

    def without(self, name: str) -> Arguments:
        (self.source / name).unlink()
        return self.compile()

    def tensor(self, name: str, change: Callable[[Any], Any]) -> Arguments:
        """Change the gate weight and store it as `name` ("": nowhere)."""
        path = self.source / "model.safetensors"
        held = dict(load_file(path))
        if name == "":
            del held[GATE]
        else:
            held[name] = np.ascontiguousarray(change(held[GATE]))
        save_file(held, path)
        return self.compile()

    def weights(self, change: Callable[[bytes], bytes]) -> Arguments:
        path = self.source / "model.safetensors"
        path.write_bytes(change(path.read_bytes()))
        return self.compile()

    def text(self, name: str, text: str) -> Arguments:
        (self.source / name).write_text(text)
        return self.compile()

    def bytes(self, change: Callable[[bytes], bytes], *options: object) -> Arguments:
        self.archive.write_bytes(change(self.archive.read_bytes()))
        return self.run("1 2", "--ids", *options)

    def header(self, **changes: object) -> Arguments:
        def change(data: bytes) -> bytes:
            header = format.parse_header(data[: format.HEADER_NBYTES], "test")
            return replace(header, **changes).pack() + data[format.HEADER_NBYTES :]  # type: ignore[arg-type]

        return self.bytes(change)

    def run(self, prompt: str, *options: object) -> Arguments:
        return ("run", self.archive, prompt, *options)


def flip(place: int) -> Callable[[bytes], bytes]:
    """One bit of the byte at a place (negative: from the end)."""

    def change(data: bytes) -> bytes:
        spoiled = bytearray(data)
        spoiled[place] ^= 1
        return bytes(spoiled)

    return change


def weights_end(desk: Desk) -> Arguments:
    """Spoil the last byte of the weights, which only --check full looks at."""
    from hearth.runtime.archive import open_archive

    (entry,) = (s for s in open_archive(desk.archive).entries.values() if s.kind == "weights")
    return desk.bytes(flip(entry.end - 1), "--check", "full")


def with_nan(weight: Any) -> Any:
    weight[3, 5] = np.nan
    return weight


def make_bad_recipe(text: str) -> Callable[[Desk], Arguments]:
    def prepare(desk: Desk) -> Arguments:
        path = desk.folder / "recipe.toml"
        path.write_text(text)
        return ("compile", "--recipe", path)

    return prepare


GATE = "model.layers.0.mlp.gate_proj.weight"
CASES: dict[str, tuple[Callable[[Desk], Arguments], str, int]] = {
    # the checkpoint
    "no_directory": (lambda d: ("compile", d.folder / "none", "-o", "o.har"), "checkpoint.not_found", 3),
    "no_config": (lambda d: d.without("config.json"), "checkpoint.config_missing", 3),
    "config_cut": (lambda d: d.text("config.json", '{"model_type": "qw'), "checkpoint.json_invalid", 3),
    "unknown_family": (lambda d: d.config(model_type="mamba"), "family.unknown", 3),
    "unsupported_activation": (lambda d: d.config(hidden_act="relu6"), "config.unsupported", 3),
    "unknown_key": (lambda d: d.config(logit_softcap=30.0), "config.key_unknown", 3),
    "missing_key": (lambda d: d.config(hidden_size=None), "config.key_missing", 3),
    "wrong_value": (lambda d: d.config(num_hidden_layers="two"), "config.value_invalid", 3),
    "no_weights": (lambda d: d.without("model.safetensors"), "checkpoint.weights_missing", 3),
    "weights_cut": (lambda d: d.weights(lambda b: b[:-100]), "checkpoint.truncated", 3),
    "weights_tail": (lambda d: d.weights(lambda b: b + b"x"), "checkpoint.trailing_bytes", 3),
    "weights_garbage": (lambda d: d.weights(lambda b: b[:8] + b"?" * 9000), "checkpoint.header_invalid", 3),
    "tensor_missing": (lambda d: d.tensor("", None), "checkpoint.tensor_missing", 3),
    "tensor_left_over": (lambda d: d.tensor("extra", np.copy), "checkpoint.tensor_left_over", 3),
    "tensor_shape": (lambda d: d.tensor(GATE, lambda w: w[:-1]), "checkpoint.tensor_shape", 3),
    "tensor_dtype": (lambda d: d.tensor(GATE, np.int8), "checkpoint.dtype_unsupported", 3),
    "tensor_nan": (lambda d: d.tensor(GATE, with_nan), "checkpoint.not_finite", 3),
    "tokenizer_cut": (lambda d: d.text("tokenizer.json", "{"), "checkpoint.json_invalid", 3),
    "tokenizer_of_nothing": (lambda d: d.text("tokenizer.json", "{}"), "checkpoint.tokenizer_invalid", 3),
    # arguments of compile
    "unknown_weights": (lambda d: d.compile("--weights", "int3"), "recipe.value", 2),
    "group_size": (lambda d: d.compile("--group-size", 48), "recipe.value", 2),
    "unknown_target": (lambda d: d.compile("--target", "sparc"), "target.unknown", 2),
    "context_too_long": (lambda d: d.compile("--context", 65), "context.out_of_range", 2),
    "float_with_dynamic": (lambda d: d.compile("--weights", "f32", "--activations", "dynamic"), "usage.activations", 2),
    "unknown_pass": (lambda d: d.compile("--skip-pass", "no_such_pass"), "usage.pass", 2),
    "no_source": (lambda d: ("compile",), "recipe.missing_key", 2),
    "recipe_syntax": (make_bad_recipe("weights = "), "recipe.syntax", 2),
    "recipe_key": (make_bad_recipe("source = 'a'\noutput = 'b'\nweigths = 'int4'"), "recipe.unknown_key", 2),
    "recipe_not_there": (lambda d: ("compile", "--recipe", d.folder / "none.toml"), "recipe.unreadable", 2),
    # the archive
    "archive_not_there": (lambda d: ("run", d.folder / "none.har", "x"), "archive.not_found", 4),
    "archive_is_a_folder": (lambda d: ("run", d.source, "x"), "archive.not_found", 4),
    "archive_empty": (lambda d: d.bytes(lambda b: b""), "archive.truncated", 4),
    "archive_of_another_kind": (lambda d: d.bytes(lambda b: b"GGUF" + b[4:]), "archive.bad_magic", 4),
    "archive_header_cut": (lambda d: d.bytes(lambda b: b[:50]), "archive.truncated", 4),
    "archive_cut": (lambda d: d.bytes(lambda b: b[:-1]), "archive.truncated", 4),
    "archive_half": (lambda d: d.bytes(lambda b: b[: len(b) // 2]), "archive.truncated", 4),
    "archive_header_flipped": (lambda d: d.bytes(flip(20)), "archive.header", 4),
    "archive_directory_flipped": (lambda d: d.bytes(flip(-1)), "archive.directory_hash", 4),
    "archive_section_flipped": (lambda d: d.bytes(flip(80)), "archive.section_hash", 4),
    "archive_weights_flipped": (weights_end, "archive.section_hash", 4),
    "archive_newer": (lambda d: d.header(version=2), "archive.version", 4),
    "archive_unknown_feature": (lambda d: d.header(features=1), "archive.schema", 4),
    "inspect_not_there": (lambda d: ("inspect", d.folder / "none.har"), "archive.not_found", 4),
    # arguments of run and bench
    "no_threads": (lambda d: d.run("1", "--ids", "--threads", 0), "arguments.threads", 2),
    "too_many_threads": (lambda d: d.run("1", "--ids", "--threads", 100_000), "arguments.threads", 2),
    "unknown_isa": (lambda d: d.run("1", "--ids", "--isa", "mmx"), "arguments.isa", 2),
    "negative_temperature": (lambda d: d.run("1", "--ids", "--temperature", -1), "arguments.temperature", 2),
    "top_p_above_one": (lambda d: d.run("1", "--ids", "--top-p", 1.5), "arguments.top_p", 2),
    "negative_top_k": (lambda d: d.run("1", "--ids", "--top-k", -1), "arguments.top_k", 2),
    "negative_seed": (lambda d: d.run("1", "--ids", "--seed", -1), "arguments.seed", 2),
    "no_tokens_wanted": (lambda d: d.run("1", "--ids", "--max-tokens", 0), "arguments.max_tokens", 2),
    "unknown_check": (lambda d: d.run("1", "--ids", "--check", "some"), "arguments.check", 2),
    "unknown_option": (lambda d: d.run("1", "--colour"), "arguments.usage", 2),
    "not_a_number": (lambda d: d.run("1", "--threads", "two"), "arguments.usage", 2),
    "unknown_command": (lambda d: ("runn", d.archive), "arguments.command", 2),
    "bench_of_nothing": (lambda d: ("bench", d.archive, "--prompts", ""), "arguments.bench", 2),
    # prompts
    "id_out_of_range": (lambda d: d.run("1 40", "--ids"), "input.token_range", 5),
    "negative_id": (lambda d: d.run("1 -1", "--ids"), "input.token_range", 5),
    "not_ids": (lambda d: d.run("1 x", "--ids"), "input.token_type", 5),
    "no_ids": (lambda d: d.run("", "--ids"), "input.empty", 5),
    "context_full": (lambda d: d.run("1 " * 65, "--ids"), "input.context_full", 5),
    "bench_beyond_context": (lambda d: ("bench", d.archive, "--prompts", 60), "input.context_full", 5),
    "no_tokenizer": (lambda d: d.run("text"), "input.not_in_archive", 5),
    "no_chat_template": (lambda d: d.run("text", "--chat"), "input.not_in_archive", 5),
    # the machine
    "output_folder_missing": (lambda d: ("compile", d.source, "-o", d.source / "no/m.har"), "resource.unwritable", 6),
    "output_is_a_folder": (lambda d: ("compile", d.source, "-o", d.source), "resource.unwritable", 6),
}  # fmt: skip


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    desk = Desk(tmp_path_factory.mktemp("good"))
    write_checkpoint(desk.source, SHAPE)
    assert hearth("compile", desk.source, "-o", desk.archive) == 0
    return desk


@pytest.fixture
def desk(good: Desk, tmp_path: Path) -> Desk:
    """A copy to spoil."""
    fresh = Desk(tmp_path / "desk")
    fresh.source.mkdir(parents=True)
    for path in good.source.iterdir():
        (fresh.source / path.name).write_bytes(path.read_bytes())
    fresh.archive.write_bytes(good.archive.read_bytes())
    return fresh


def listing(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def refused(
    desk: Desk, arguments: Arguments, capsys: pytest.CaptureFixture[str]
) -> tuple[str, int]:
    """(error code, exit code) of a command that must fail by one line and leave nothing."""
    before = listing(desk.folder)
    exit_code = hearth(*arguments, "--json")
    shown = capsys.readouterr()
    error = json.loads(shown.err.splitlines()[-1])
    assert error["exit_code"] == exit_code
    assert error["code"] in error["message"]
    assert listing(desk.folder) == before
    return error["code"], exit_code


@pytest.mark.parametrize("name", CASES)
def test_bad_input_is_refused(name: str, desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    prepare, code, exit_code = CASES[name]
    assert refused(desk, prepare(desk), capsys) == (code, exit_code)


def test_the_good_input_is_good(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    assert hearth(*desk.compile()) == 0
    assert hearth(*desk.run("1 2", "--ids", "--max-tokens", 3)) == 0
    assert hearth("bench", desk.archive, "--prompts", 8, "--decode", 2, "--runs", 1) == 0


def test_a_disk_too_small_is_refused_before_any_work(
    desk: Desk, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (files, sys.modules["hearth.compiler.package"]):
        monkeypatch.setattr(module, "free_nbytes", lambda folder: 1000)
    assert refused(desk, desk.compile(), capsys) == ("resource.disk_full", 6)


def test_a_machine_too_small_is_refused_before_any_work(
    desk: Desk, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "available_nbytes", lambda: 1000)
    assert refused(desk, desk.compile(), capsys) == ("resource.memory", 6)


def limited(kind: int, nbytes: int, *arguments: object) -> subprocess.CompletedProcess[str]:
    """`hearth` in a process of its own under a limit of the system."""
    command = [sys.executable, command_line.__file__, *(str(argument) for argument in arguments)]
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=120,
        preexec_fn=lambda: resource.setrlimit(kind, (nbytes, nbytes)),
    )


def test_a_disk_that_fills_while_writing_leaves_nothing(desk: Desk) -> None:
    before = listing(desk.folder)
    found = limited(resource.RLIMIT_FSIZE, 8192, *desk.compile())
    assert (found.returncode, "resource.disk_full" in found.stderr) == (6, True), found.stderr
    assert "Traceback" not in found.stderr
    assert listing(desk.folder) == before


def test_no_memory_for_a_cache_is_refused(desk: Desk) -> None:
    """A cache of 2 GiB in a process that may have 1.5: the archive is fine, the machine is not."""
    wide = replace(SHAPE, hidden=256, heads=32, kv_heads=32, context=1 << 20)
    write_checkpoint(desk.source, wide)
    assert hearth(*desk.compile("--context", 1 << 20, "--kv", "f32")) == 0
    found = limited(resource.RLIMIT_AS, 3 << 29, "run", desk.folder / "out.har", "1", "--ids")
    assert (found.returncode, "resource.memory" in found.stderr) == (6, True), found.stderr
    assert "Traceback" not in found.stderr


def test_text_that_is_not_utf8_is_refused(desk: Desk) -> None:
    command = [sys.executable, command_line.__file__, "run", desk.archive, "-"]
    found = subprocess.run(command, input=b"\xff\xfe", capture_output=True, timeout=60)
    assert (found.returncode, b"input.text" in found.stderr) == (5, True)
    assert b"Traceback" not in found.stderr
