"""Signatures: made, replaced, checked; every way in which one does not hold has its error."""

from __future__ import annotations

import stat
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("cryptography", reason="signatures need the package cryptography")

from hearth.runtime import signing
from hearth.runtime.archive import ArchiveWriter, append
from hearth.runtime.archive.reader import Container, open_container
from hearth.runtime.signing import check_signature, make_keys, read_signature, sign
from hearth.schemas import sections
from hearth.schemas.codec import dumps
from hearth.schemas.errors import ArchiveError, HearthError, MissingError, UsageError
from hearth.schemas.sections import Kind, Section
from hearth.schemas.signature import Signature, signed_digest


@pytest.fixture
def key(tmp_path: Path) -> Path:
    make_keys(tmp_path / "key")
    return tmp_path / "key"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    with ArchiveWriter(tmp_path / "m.har") as writer:
        writer.add("manifest", Kind.MANIFEST, b"what it is")
        writer.add("weights/x", Kind.WEIGHTS, bytes(5000))
    return tmp_path / "m.har"


def public(key: Path) -> Path:
    return key.with_name(key.name + ".pub")


def opened(file: Path) -> Container:
    return open_container(file, "full")


def refused(code: str, call: Callable[[], object]) -> HearthError:
    with pytest.raises(HearthError) as found:
        call()
    assert found.value.code == code
    return found.value


def test_what_was_signed_is_accepted(file: Path, key: Path) -> None:
    made = sign(opened(file), key)
    assert check_signature(opened(file), public(key)) == made.key
    assert read_signature(opened(file)) == made


def test_the_private_key_is_its_owners_alone(key: Path) -> None:
    assert stat.S_IMODE(key.stat().st_mode) & 0o077 == 0


def test_signing_again_replaces_the_signature(file: Path, key: Path, tmp_path: Path) -> None:
    make_keys(tmp_path / "other")
    sign(opened(file), key)
    sign(opened(file), tmp_path / "other")
    check_signature(opened(file), tmp_path / "other.pub")
    refused("signature.wrong_key", lambda: check_signature(opened(file), public(key)))
    kinds = [section.kind for section in opened(file).directory.sections]
    assert kinds.count(Kind.SIGNATURE) == 1


def test_an_unsigned_archive_is_refused(file: Path, key: Path) -> None:
    refused("signature.unsigned", lambda: check_signature(opened(file), public(key)))


def test_what_is_added_later_is_not_signed(file: Path, key: Path) -> None:
    sign(opened(file), key)
    append(file, [("lora/x", "adapter", b"1")])
    error = refused("signature.mismatch", lambda: check_signature(opened(file), public(key)))
    assert error.exit_code == ArchiveError.exit_code
    sign(opened(file), key)
    check_signature(opened(file), public(key))


def rewritten(file: Path, change: Callable[[str, str, bytes], tuple[str, str, bytes]]) -> Container:
    """The archive written anew with whole hashes, each section as `change` makes it."""
    old = opened(file)
    other = file.with_name("rewritten.har")
    with ArchiveWriter(other) as writer:
        for section in old.directory.sections:
            if section.kind != Kind.RETIRED:
                data = bytes(old.section(section.name))
                writer.add(*change(section.name, section.kind, data))
    return opened(other)


CHANGES = {
    "another byte": lambda name, kind, data: (name, kind, b"!" + data[1:] if name == "manifest" else data),
    "another name": lambda name, kind, data: (name.replace("/x", "/y"), kind, data),
    "another kind": lambda name, kind, data: (name, "text" if name == "manifest" else kind, data),
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_tampering_is_found(
    change: Callable[[str, str, bytes], tuple[str, str, bytes]], file: Path, key: Path
) -> None:
    sign(opened(file), key)
    check_signature(rewritten(file, lambda *section: section), public(key))
    changed = rewritten(file, change)
    refused("signature.mismatch", lambda: check_signature(changed, public(key)))


def test_a_signature_that_is_none_is_refused(file: Path, key: Path) -> None:
    good = sign(opened(file), key)
    for bad in ("", "zz", "00" * 64, good.signature[:-2], good.signature[2:] + "00"):
        value = Signature("ed25519", good.key, bad)
        section = [(sections.SIGNATURE, Kind.SIGNATURE, dumps(value))]
        append(file, section, replace=(sections.SIGNATURE,))
        refused("signature.mismatch", lambda: check_signature(opened(file), public(key)))


def test_the_digest_covers_all_that_a_section_is() -> None:
    """Each change, of features and format too, gives another digest; order, places and signatures do not."""
    first, second = Section("a", "text", 64, 3, b"1" * 32), Section("b", "text", 128, 3, b"2" * 32)
    signature = Section("signature", Kind.SIGNATURE, 192, 9, b"3" * 32)
    base = signed_digest(2, {}, (first, second))
    assert signed_digest(2, {}, (second, first, signature)) == base
    assert signed_digest(2, {}, (replace(first, offset=256), second)) == base
    others = [
        signed_digest(1, {}, (first, second)),
        signed_digest(2, {"x": 0}, (first, second)),
        signed_digest(2, {}, (first,)),
        signed_digest(2, {}, (replace(first, name="c"), second)),
        signed_digest(2, {}, (replace(first, kind="json"), second)),
        signed_digest(2, {}, (replace(first, sha256=b"4" * 32), second)),
        signed_digest(2, {}, (replace(first, sha256=b"2" * 32), replace(second, sha256=b"1" * 32))),
    ]
    assert len({base, *others}) == len(others) + 1


def test_a_missing_key_is_told(file: Path, tmp_path: Path) -> None:
    refused("key.not_found", lambda: sign(opened(file), tmp_path / "none"))
    refused("key.not_found", lambda: check_signature(opened(file), tmp_path / "none"))


def test_malformed_keys_are_told(file: Path, key: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad"
    contents = (
        b"",
        b"no key",
        bytes(100),
        key.read_bytes()[:60],
        key.read_bytes()[10:],
        b"\xff" * 70_000,
    )
    for content in contents:
        bad.write_bytes(content)
        refused("key.invalid", lambda: sign(opened(file), bad))
        refused("key.invalid", lambda: check_signature(opened(file), bad))


def test_keys_of_the_wrong_half_are_told(file: Path, key: Path) -> None:
    assert "a public key" in str(refused("key.invalid", lambda: sign(opened(file), public(key))))
    sign(opened(file), key)
    error = refused("key.invalid", lambda: check_signature(opened(file), key))
    assert "a private key" in str(error)


def test_other_kinds_of_keys_are_told(file: Path, tmp_path: Path) -> None:
    from cryptography.hazmat.primitives import serialization as form
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519

    curve = ec.generate_private_key(ec.SECP256R1())
    locked = ed25519.Ed25519PrivateKey.generate()
    pem, pkcs8 = form.Encoding.PEM, form.PrivateFormat.PKCS8
    (tmp_path / "ec").write_bytes(curve.private_bytes(pem, pkcs8, form.NoEncryption()))
    encrypted = locked.private_bytes(pem, pkcs8, form.BestAvailableEncryption(b"secret"))
    (tmp_path / "locked").write_bytes(encrypted)
    assert "password" in str(
        refused("key.invalid", lambda: sign(opened(file), tmp_path / "locked"))
    )
    refused("key.invalid", lambda: sign(opened(file), tmp_path / "ec"))


def test_keygen_overwrites_nothing(key: Path, tmp_path: Path) -> None:
    before = key.read_bytes()
    refused("key.exists", lambda: make_keys(key))
    (tmp_path / "new.pub").write_bytes(b"somebody's")
    with pytest.raises(UsageError):
        make_keys(tmp_path / "new")
    assert key.read_bytes() == before
    assert not (tmp_path / "new").exists()


def test_keys_of_openssl_fit(file: Path, tmp_path: Path) -> None:
    ssl = tmp_path / "ssl"
    commands = (
        ["openssl", "genpkey", "-algorithm", "ed25519", "-out", str(ssl)],
        ["openssl", "pkey", "-in", str(ssl), "-pubout", "-out", f"{ssl}.pub"],
    )
    try:
        for command in commands:
            subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("openssl is not here, or makes no ed25519 keys")
    sign(opened(file), ssl)
    check_signature(opened(file), public(ssl))


def test_without_the_package_its_name_is_told(
    file: Path, key: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signing, "find_spec", lambda _: None)
    with pytest.raises(MissingError, match=r"hearth\[sign\]") as found:
        sign(opened(file), key)
    assert found.value.code == "missing.cryptography"
