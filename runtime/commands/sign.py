"""`hearth keygen` and `hearth sign`: a pair of keys, and an archive signed with one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hearth.runtime.commands.terminal import emit, emit_json


def keygen_command(
    key: Annotated[
        Path, typer.Argument(help="file for the private key; the public one gets .pub after it")
    ],
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON object")] = False,
) -> None:
    """Make an ed25519 pair of keys to sign archives with."""
    from hearth.runtime.signing import make_keys

    public = make_keys(key)
    if as_json:
        emit_json({"private": str(key), "public": str(public)})
    else:
        emit(f"{key}: private, keep it to yourself\n{public}: public, give it to who verifies\n")


def sign_command(
    file: Annotated[Path, typer.Argument(help="the .har file")],
    key: Annotated[Path, typer.Option(help="the private key (PEM)")],
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON object")] = False,
) -> None:
    """Sign an archive, all of it; a signature that was there is replaced."""
    from hearth.runtime.archive import open_archive
    from hearth.runtime.signing import sign

    made = sign(open_archive(file, check="full"), key)
    if as_json:
        emit_json({"file": str(file), "key": made.key})
    else:
        emit(f"{file}: signed by {made.key[:16]}\n")
