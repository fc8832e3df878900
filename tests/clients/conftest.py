"""One `hearth serve` for all clients: a decoder that chats and knows tools, and an encoder."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.encoders import compile_encoder, write_encoder
from support.lora import Peft, write_peft
from support.serve import KEY, Served, chat_checkpoint, serving

from hearth.compiler.lora.add import add_adapter
from hearth.runtime.archive import open_archive


@dataclass(frozen=True)
class Files:
    """Archives, and a file with the key."""

    decoder: Path
    encoder: Path
    key: Path


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    folder = tmp_path_factory.mktemp("served")
    (folder / "keys").write_text(f"{KEY}\n")
    decoder = compile_encoder(
        chat_checkpoint(folder / "chat"),
        folder / "tales.har",
        weights="int8",
        activations="dynamic",
    )
    peft = write_peft(folder / "peft", folder / "chat", Peft(spread=2.0))
    add_adapter(open_archive(decoder), "loud", peft)
    encoder = compile_encoder(
        write_encoder(folder / "bert"),
        folder / "words.har",
        weights="f32",
        kv="f32",
        pooling="mean",
    )
    return Files(decoder, encoder, folder / "keys")


@pytest.fixture(scope="session")
def served(files: Files) -> Iterator[Served]:
    names = [f"tales={files.decoder}", f"words={files.encoder}"]
    with serving(
        names, "--api-key-file", str(files.key), "--threads", "1", "--timeout", "20"
    ) as found:
        yield found
        assert found.alive, "the server died: " + "".join(found.log[-20:])
        assert not [line for line in found.log if "this is a bug" in line]


@pytest.fixture(scope="session")
def base(served: Served) -> str:
    """Of OpenAI's clients."""
    return f"{served.url}/v1"
