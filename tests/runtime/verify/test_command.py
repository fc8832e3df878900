"""The commands verify, sign and keygen: tables, JSON, exit codes; and a load that asks for a signature."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Archives
from support.command_line import ROOT, hearth
from support.forging import replaced, rewritten

from hearth.runtime import load, native
from hearth.runtime.archive import open_archive
from hearth.runtime.loader import load_any
from hearth.runtime.verify import again, schema
from hearth.runtime.verify.subject import Recompile
from hearth.schemas import sections
from hearth.schemas.errors import ArchiveError, MissingError
from hearth.schemas.provenance import Provenance

Captured = pytest.CaptureFixture[str]
RELEASED = sorted((ROOT / "tests/archives").glob("v1-*.har"))


@pytest.fixture
def file(archive: Path, tmp_path: Path) -> Path:
    copy = tmp_path / "m.har"
    copy.write_bytes(archive.read_bytes())
    return copy


def test_people_get_a_line_for_each_step(file: Path, capsys: Captured) -> None:
    assert hearth("verify", file, "--all-isas", "--threads", 2) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == [
        "structure", "hashes", "schema", "consistency", "plan", "adapters", "provenance", "tokenizer",
        "chat", "golden", "prompt", "recorded", "signature", "source", "content",
    ]  # fmt: skip
    golden = next(line for line in lines if line.startswith("golden"))
    assert all(isa in golden for isa in native.isas())


def test_programs_get_one_object(file: Path, capsys: Captured) -> None:
    assert hearth("verify", file, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["passed"] is True
    assert len(found["content_hash"]) == 64
    assert {step["outcome"] for step in found["steps"]} == {"passed", "skipped"}


def test_a_failure_leaves_with_its_code(file: Path, tmp_path: Path, capsys: Captured) -> None:
    forged = rewritten(file, tmp_path / "f.har", {sections.CHAT_TEMPLATE: replaced(b"no")})
    assert hearth("verify", forged) == 4
    said = capsys.readouterr()
    assert "[verify.chat_template]" in said.err
    assert "chat template  failed" in said.out
    assert hearth("verify", forged, "--json") == 4
    said = capsys.readouterr()
    failed = [step for step in json.loads(said.out)["steps"] if step["outcome"] == "failed"]
    assert [step["code"] for step in failed] == ["verify.chat_template", "verify.provenance"]
    assert json.loads(said.err.splitlines()[-1])["code"] == "verify.chat_template"


BAD = {
    "no_such_file": (("nowhere.har",), 4, "archive.not_found"),
    "isa": (("FILE", "--isa", "sparc"), 2, "arguments.isa"),
    "threads": (("FILE", "--threads", 0), 2, "arguments.threads"),
    "key": (("FILE", "--key", "nowhere"), 2, "key.not_found"),
}


@pytest.mark.parametrize("case", BAD.values(), ids=BAD)
def test_bad_arguments(
    case: tuple[tuple[object, ...], int, str], file: Path, capsys: Captured
) -> None:
    arguments, exit_code, code = case
    given = [file if argument == "FILE" else argument for argument in arguments]
    assert hearth("verify", *given) == exit_code
    assert f"[{code}]" in capsys.readouterr().err


def test_signing_and_verifying(file: Path, tmp_path: Path, capsys: Captured) -> None:
    pytest.importorskip("cryptography", reason="signatures need the package cryptography")
    assert hearth("keygen", tmp_path / "key") == 0
    assert hearth("keygen", tmp_path / "other", "--json") == 0
    assert hearth("verify", file, "--key", tmp_path / "key.pub") == 4
    assert "[signature.unsigned]" in capsys.readouterr().err
    assert hearth("sign", file, "--key", tmp_path / "key") == 0
    assert hearth("verify", file, "--key", tmp_path / "key.pub") == 0
    assert hearth("verify", file, "--key", tmp_path / "other.pub") == 4
    assert "[signature.wrong_key]" in capsys.readouterr().err
    assert hearth("inspect", file, "--json") == 0
    assert len(json.loads(capsys.readouterr().out)["signed_by"]) == 64


def test_a_load_that_asks_for_a_signature(file: Path, tmp_path: Path) -> None:
    """Every byte is hashed then: a weight that was changed is found although structure alone would pass."""
    pytest.importorskip("cryptography", reason="signatures need the package cryptography")
    hearth("keygen", tmp_path / "key")
    with pytest.raises(ArchiveError, match="not signed"):
        load(file, key=tmp_path / "key.pub")
    hearth("sign", file, "--key", tmp_path / "key")
    assert load(file, key=tmp_path / "key.pub").manifest.source == "hearthside"
    load_any(file, key=str(tmp_path / "key.pub"))
    weights = open_archive(file).entries["weights/x86-64-v3"]
    data = bytearray(file.read_bytes())
    data[weights.offset + 1000] ^= 1
    file.write_bytes(data)
    load(file)
    with pytest.raises(ArchiveError, match="SHA-256"):
        load(file, key=tmp_path / "key.pub")


@pytest.fixture
def recompile(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the compiler were installed with its entry points."""
    from hearth.compiler.check.recompile import recompile

    monkeypatch.setattr(again, "installed", lambda: recompile)


@pytest.mark.usefixtures("recompile")
def test_the_source_gives_the_same_bytes(
    file: Path, archives: Archives, tmp_path: Path, capsys: Captured
) -> None:
    before = sorted(tmp_path.iterdir())
    assert hearth("verify", file, "--source", archives.checkpoint("hearthside")) == 0
    out = capsys.readouterr().out
    assert "source         passed   all 13 sections are equal" in out
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.usefixtures("recompile")
def test_another_source_does_not(archives: Archives, tmp_path: Path, capsys: Captured) -> None:
    """One bit of one weight: the weights differ, and the record names the file."""
    from safetensors.numpy import load_file, save_file
    from support.checkpoint import write_checkpoint

    source = write_checkpoint(tmp_path / "tiny")
    assert hearth("compile", source, "-o", tmp_path / "m.har", "--weights", "f16") == 0
    tensors = load_file(source / "model.safetensors")
    tensors["model.layers.0.mlp.down_proj.weight"][3, 4] += 1
    save_file(tensors, source / "model.safetensors")
    assert hearth("verify", tmp_path / "m.har", "--source", source) == 4
    said = capsys.readouterr().err
    assert "[verify.source]" in said
    assert "weights/" in said
    assert "source file model.safetensors" in said


@pytest.mark.usefixtures("recompile")
def test_a_source_of_another_name_is_told_what_to_do(tmp_path: Path, capsys: Captured) -> None:
    from support.checkpoint import write_checkpoint

    source = write_checkpoint(tmp_path / "tiny")
    assert hearth("compile", source, "-o", tmp_path / "m.har", "--weights", "f16") == 0
    source.rename(tmp_path / "moved")
    assert hearth("verify", tmp_path / "m.har", "--source", tmp_path / "moved") == 4
    assert "give it as 'tiny'" in capsys.readouterr().err
    (tmp_path / "there").mkdir()
    (tmp_path / "moved").rename(tmp_path / "there/tiny")
    assert hearth("verify", tmp_path / "m.har", "--source", tmp_path / "there/tiny") == 0


def test_what_was_added_later_is_not_compared(
    file: Path, archives: Archives, run: Callable[..., object]
) -> None:
    from hearth.compiler.check.recompile import recompile
    from hearth.runtime.archive import append

    append(file, [("lora/x", "adapter", b"1")])
    report = run(file, source=archives.checkpoint("hearthside"), recompile=recompile)
    detail = next(step.detail for step in report.steps if step.name == "source")  # type: ignore[attr-defined]
    assert "added later, and not compared: lora/x" in detail


def test_a_record_with_other_versions_says_which(
    archive: Path, run: Callable[..., object], tmp_path: Path
) -> None:
    """The recompiled archive's own record is compared field by field."""

    def other(
        source: Path, record: Provenance, output: Path, threads: int, text: Path | None
    ) -> None:
        from dataclasses import replace

        from hearth.schemas.provenance import read_provenance, write_provenance

        def changed(data: bytes) -> bytes:
            old = read_provenance(data)
            return write_provenance(replace(old, packages={**old.packages, "numpy": "0.1"}))

        rewritten(archive, output, {sections.PROVENANCE: changed})

    forger: Recompile = other
    report = run(archive, source=tmp_path, recompile=forger)
    (failure,) = report.failures  # type: ignore[attr-defined]
    assert failure.code == "verify.source"
    assert "version of numpy (0.1, recorded" in str(failure)


def test_without_the_compiler_its_package_is_told(
    file: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(again.metadata, "entry_points", lambda group: ())
    assert hearth("verify", file, "--source", "anything") == 7
    assert "hearth[compiler]" in capsys.readouterr().err


def test_without_a_place_to_compile_to(
    file: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch, recompile: None
) -> None:
    def full(**_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(again.tempfile, "TemporaryDirectory", full)
    assert hearth("verify", file, "--source", "anything") == 6
    assert "[resource.unwritable]" in capsys.readouterr().err


def test_a_device_without_jsonschema_decodes_all_the_same(
    file: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(*_: object) -> None:
        raise MissingError("missing.jsonschema", "not here", remedy="install it")

    monkeypatch.setattr(schema, "first_problem", missing)
    assert hearth("verify", file) == 0
    assert "jsonschema, which is not installed" in capsys.readouterr().out


@pytest.mark.parametrize("path", RELEASED, ids=lambda path: path.stem)
def test_an_archive_of_version_1_can_be_signed(path: Path, tmp_path: Path) -> None:
    """It stays one of version 1, and reads as before."""
    pytest.importorskip("cryptography", reason="signatures need the package cryptography")
    copy = tmp_path / "m.har"
    copy.write_bytes(path.read_bytes())
    hearth("keygen", tmp_path / "key")
    assert hearth("sign", copy, "--key", tmp_path / "key") == 0
    assert hearth("verify", copy, "--key", tmp_path / "key.pub") == 0
    assert open_archive(copy).header.version == 1
