"""Sign archives and check signatures: ed25519 keys in PEM files, as `openssl genpkey -algorithm ed25519` makes them."""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from hearth.runtime.archive import append
from hearth.runtime.archive.reader import Container
from hearth.schemas import sections
from hearth.schemas.codec import dumps, loads
from hearth.schemas.errors import ArchiveError, MissingError, ResourceError, UsageError
from hearth.schemas.sections import Kind
from hearth.schemas.signature import Signature, signed_digest

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import (
        Ed25519PrivateKey,
        Ed25519PublicKey,
    )

LARGEST_KEY_NBYTES = 1 << 16


def make_keys(private: Path) -> Path:
    """Writes a new private key (readable by its owner alone) and `<private>.pub`, whose path is the result.

    Neither file may exist.
    """
    require_cryptography()
    from cryptography.hazmat.primitives import serialization as form
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    public = private.with_name(private.name + ".pub")
    for path in (private, public):
        if path.exists():
            raise UsageError(
                "key.exists",
                "a file of this name is there already",
                where=str(path),
                remedy="choose another name; a key that is overwritten is lost",
            )
    key = Ed25519PrivateKey.generate()
    secret = key.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption())
    shown = key.public_key().public_bytes(form.Encoding.PEM, form.PublicFormat.SubjectPublicKeyInfo)
    _write_new(private, secret, 0o600)
    _write_new(public, shown, 0o644)
    return public


def sign(archive: Container, key: Path) -> Signature:
    """Signs all that the archive holds; a signature that was there is replaced.

    The archive should have been opened with check="full": what is signed are the hashes.
    """
    private = _private_key(key)
    signed = private.sign(digest_of(archive)).hex()
    made = Signature("ed25519", _raw(private.public_key()), signed)
    append(
        archive.path,
        [(sections.SIGNATURE, Kind.SIGNATURE, dumps(made))],
        replace=(sections.SIGNATURE,),
    )
    return made


def read_signature(archive: Container) -> Signature | None:
    """The signature of an archive, unchecked; None where there is none."""
    if sections.SIGNATURE not in archive.entries:
        return None
    data = archive.section(sections.SIGNATURE)
    return loads(Signature, data, sections.SIGNATURE, str(archive.path))


def check_signature(archive: Container, key: Path) -> str:
    """The public key (hex) of a key file, if it signed this archive; ArchiveError signature.* where it did not.

    It covers names, kinds and hashes of the sections: that their bytes have these hashes is check="full".
    """
    public, where = _public_key(key), str(archive.path)
    found = read_signature(archive)
    if found is None:
        raise ArchiveError(
            "signature.unsigned", "the archive is not signed", where=where,
            expected=f"a signature by {_raw(public)[:16]}",
            remedy="sign it with `hearth sign`, or take it from where it is signed",
        )  # fmt: skip
    if found.key != _raw(public):
        raise ArchiveError(
            "signature.wrong_key", f"it is signed by {found.key[:16]}", where=where,
            expected=f"a signature by {_raw(public)[:16]}, the key that was given",
            remedy="give the signer's public key, or do not trust this archive",
        )  # fmt: skip
    from cryptography.exceptions import InvalidSignature

    try:
        public.verify(bytes.fromhex(found.signature), digest_of(archive))
    except (InvalidSignature, ValueError):
        raise ArchiveError(
            "signature.mismatch", "the archive is not what was signed", where=where,
            expected="the sections its signature was made over",
            remedy="it was changed after it was signed: do not trust it; sign it again if you changed it",
        ) from None  # fmt: skip
    return found.key


def digest_of(archive: Container) -> bytes:
    """What a signature of this archive signs."""
    header, directory = archive.header, archive.directory
    return signed_digest(header.version, directory.features, directory.sections)


def _raw(key: Ed25519PublicKey) -> str:
    """The key as the section has it."""
    return key.public_bytes_raw().hex()


def _private_key(path: Path) -> Ed25519PrivateKey:
    require_cryptography()
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    key = _parsed(path, "private", lambda data: load_pem_private_key(data, None))
    if not isinstance(key, Ed25519PrivateKey):
        raise _no_key(path, "private", f"it holds a {type(key).__name__}")
    return key


def _public_key(path: Path) -> Ed25519PublicKey:
    require_cryptography()
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    key = _parsed(path, "public", load_pem_public_key)
    if not isinstance(key, Ed25519PublicKey):
        raise _no_key(path, "public", f"it holds a {type(key).__name__}")
    return key


def _parsed(path: Path, kind: str, parse: Callable[[bytes], object]) -> object:
    from cryptography.exceptions import UnsupportedAlgorithm

    data = _read(path)
    try:
        return parse(data)
    except TypeError:  # the library's word for a password that was not given
        raise _no_key(path, kind, "it is protected by a password") from None
    except (ValueError, UnsupportedAlgorithm):
        other = "public" if kind == "private" else "private"
        held = f"{other.upper()} KEY".encode() in data
        raise _no_key(path, kind, f"it is a {other} key" if held else "it is no key") from None


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(LARGEST_KEY_NBYTES)
    except FileNotFoundError:
        raise UsageError(
            "key.not_found", "there is no such key file", where=str(path),
            remedy="give the path of a PEM file; `hearth keygen` makes a pair",
        ) from None  # fmt: skip
    except OSError as error:
        raise ResourceError(
            "resource.unreadable", f"cannot be read: {error.strerror}", where=str(path),
            remedy="check its permissions and the disk",
        ) from None  # fmt: skip


def _no_key(path: Path, kind: str, found: str) -> UsageError:
    return UsageError(
        "key.invalid", found, expected=f"an ed25519 {kind} key in PEM, without a password",
        where=str(path), remedy="make a pair with `hearth keygen`, or with openssl",
    )  # fmt: skip


def _write_new(path: Path, data: bytes, mode: int) -> None:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
    except OSError as error:
        raise ResourceError(
            "resource.unwritable", f"cannot be written: {error.strerror}", where=str(path),
            remedy="choose another place",
        ) from None  # fmt: skip


def require_cryptography() -> None:
    """Refuses with the package's name where it is missing."""
    if find_spec("cryptography") is None:
        raise MissingError(
            "missing.cryptography",
            "signatures need the package cryptography, which is not installed",
            remedy='pip install "hearth[sign]"',
        )
