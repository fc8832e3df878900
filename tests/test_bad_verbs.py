"""Bad input to verify, sign, keygen, diff and regress: the documented error each time, and nothing left behind."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.command_line import declared, hearth, process
from support.desk import Desk
from support.refusals import Case, require_refusal


def written(desk: Desk, name: str, text: str) -> Path:
    """A file on the desk."""
    path = desk.folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def spoilt(desk: Desk) -> Path:
    """An archive with a flipped bit in its manifest."""
    data = bytearray(desk.archive.read_bytes())
    data[70] ^= 1
    path = desk.folder / "spoilt.har"
    path.write_bytes(data)
    return path


def recipes(desk: Desk, text: str = "") -> Path:
    """A folder of one recipe."""
    return written(desk, "recipes/a.toml", text or 'source = "../src"\n').parent


VERIFY = (
    Case("verify_nothing", lambda d: ("verify",), "arguments.usage", 2),
    Case("verify_no_file", lambda d: ("verify", "none.har"), "archive.not_found", 4),
    Case("verify_no_archive", lambda d: ("verify", d.source / "config.json"), "archive.bad_magic", 4),
    Case("verify_spoilt", lambda d: ("verify", spoilt(d)), "archive.section_hash", 4),
    Case("verify_isa", lambda d: ("verify", d.archive, "--isa", "mmx"), "arguments.isa", 2),
    Case("verify_threads", lambda d: ("verify", d.archive, "--threads", 0), "arguments.threads", 2),
    Case("verify_no_key", lambda d: ("verify", d.archive, "--key", "none.pub"), "key.not_found", 2),
)  # fmt: skip
SIGN = (
    Case("sign_nothing", lambda d: ("sign",), "arguments.usage", 2),
    Case("sign_without_key", lambda d: ("sign", d.archive), "arguments.usage", 2),
    Case("sign_no_key", lambda d: ("sign", d.archive, "--key", "none"), "key.not_found", 2),
    Case("sign_bad_key", lambda d: ("sign", d.archive, "--key", written(d, "k", "no key")), "key.invalid", 2),
    Case("sign_no_file", lambda d: ("sign", "none.har", "--key", "k"), "archive.not_found", 4),
    Case("sign_spoilt", lambda d: ("sign", spoilt(d), "--key", "k"), "archive.section_hash", 4),
    Case("keygen_nothing", lambda d: ("keygen",), "arguments.usage", 2),
    Case("keygen_again", lambda d: ("keygen", written(d, "k", "mine")), "key.exists", 2),
    Case("keygen_nowhere", lambda d: ("keygen", d.folder / "none/k"), "resource.unwritable", 6),
)  # fmt: skip
DIFF = (
    Case("diff_nothing", lambda d: ("diff",), "arguments.usage", 2),
    Case("diff_one", lambda d: ("diff", d.archive), "arguments.usage", 2),
    Case("diff_no_file", lambda d: ("diff", d.archive, "none.har"), "archive.not_found", 4),
    Case("diff_folder", lambda d: ("diff", d.archive, d.source), "archive.not_found", 4),
    Case("diff_no_archive", lambda d: ("diff", d.source / "config.json", d.archive), "archive.bad_magic", 4),
    Case("diff_spoilt", lambda d: ("diff", d.archive, spoilt(d)), "archive.section_hash", 4),
    Case("diff_check", lambda d: ("diff", d.archive, d.archive, "--check", "some"), "arguments.check", 2),
    Case("diff_codes", lambda d: ("diff", d.archive, d.archive, "--max-codes", -1), "arguments.limit", 2),
    Case("diff_scale", lambda d: ("diff", d.archive, d.archive, "--max-scale", "nan"), "arguments.limit", 2),
    Case("diff_rms", lambda d: ("diff", d.archive, d.archive, "--max-rms", "inf"), "arguments.limit", 2),
    Case("diff_word", lambda d: ("diff", d.archive, d.archive, "--max-rms", "low"), "arguments.usage", 2),
    Case("diff_section", lambda d: ("diff", d.archive, d.archive, "--ignore", "goldens"), "arguments.section", 2),
    Case("diff_field", lambda d: ("diff", d.archive, d.archive, "--ignore", "x.y"), "arguments.section", 2),
)  # fmt: skip
REGRESS = (
    Case("regress_nothing", lambda d: ("regress",), "arguments.usage", 2),
    Case("regress_no_folder", lambda d: ("regress", "none"), "regress.folder", 2),
    Case("regress_a_file", lambda d: ("regress", d.archive), "regress.folder", 2),
    Case("regress_no_recipes", lambda d: ("regress", d.source), "regress.nothing", 2),
    Case("regress_only", lambda d: ("regress", recipes(d), "--only", "b*"), "regress.nothing", 2),
    Case("regress_threads", lambda d: ("regress", recipes(d), "--threads", 999), "arguments.threads", 2),
    Case("regress_keep", lambda d: ("regress", recipes(d), "--keep", d.archive), "resource.unwritable", 6),
    Case("regress_junit", lambda d: ("regress", recipes(d), "--junit", d.archive / "j.xml"),
         "resource.unwritable", 6),
    Case("regress_junit_folder", lambda d: ("regress", recipes(d), "--junit", d.source), "resource.unwritable", 6),
)  # fmt: skip
CASES = (*VERIFY, *SIGN, *DIFF, *REGRESS)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_bad_input_is_refused(
    case: Case, desk: Desk, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    require_refusal(case, desk, capsys, monkeypatch)


NOT_JSON = ("serve", "lora")  # the server speaks while it runs; the verbs of lora have it


@pytest.mark.parametrize("name", declared())
def test_help_says_what_a_verb_takes(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert hearth(name, "--help") == 0
    shown = capsys.readouterr().out
    assert f"Usage: hearth {name}" in shown
    assert name in NOT_JSON or "--json" in shown
    assert hearth(name, "--no-such-option") == 2
    assert "arguments.usage" in capsys.readouterr().err


def test_a_difference_is_no_error_but_an_exit_code(desk: Desk) -> None:
    """Standard error stays empty: what differs is the result."""
    assert hearth(*desk.compile("--kv", "f32")) == 0
    other = desk.folder / "out.har"
    for arguments in (("diff", desk.archive, other), ("diff", desk.archive, other, "--max-rms", 1)):
        found = process(*arguments)
        assert (found.returncode, found.stderr) == (8, "")
        assert "kv" in found.stdout
    assert process("diff", desk.archive, desk.archive).returncode == 0
    found = process("regress", recipes(desk, 'source = "../src"\ntarget = "x86-64-v3"\n'))
    assert (found.returncode, found.stderr) == (8, "")
    assert "a: new" in found.stdout
