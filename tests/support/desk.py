"""A folder with a good checkpoint and a good archive, and ways to spoil either; each gives a command to run."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

from hearth.runtime.archive import format, open_archive
from hearth.schemas import sections
from hearth.schemas.codec import dumps
from hearth.schemas.program import Program
from support.archives import Forgery
from support.checkpoint import Shape, write_checkpoint
from support.command_line import hearth

SHAPE = Shape(hidden=16, layers=1, heads=2, kv_heads=1, ffn=24, vocab=40, context=64)
GATE = "model.layers.0.mlp.gate_proj.weight"
WORDS = {f"w{number}": number for number in range(1, SHAPE.vocab)}
TOKENIZER = {
    "version": "1.0",
    "added_tokens": [],
    "pre_tokenizer": {"type": "Whitespace"},
    "model": {"type": "WordLevel", "vocab": {"<unk>": 0, **WORDS}, "unk_token": "<unk>"},
}
Arguments = Sequence[object]
Change = Callable[[bytes], bytes]


@dataclass(frozen=True)
class Desk:
    """The checkpoint is `src`, the archive `m.har`; compiling writes `out.har`."""

    folder: Path

    @property
    def source(self) -> Path:
        return self.folder / "src"

    @property
    def archive(self) -> Path:
        return self.folder / "m.har"

    def listing(self) -> dict[str, int]:
        """Every file with its size."""
        return {
            str(path.relative_to(self.folder)): path.stat().st_size if path.is_file() else -1
            for path in self.folder.rglob("*")
        }

    # compile

    def compile(self, *options: object) -> Arguments:
        return ("compile", self.source, "-o", self.folder / "out.har", *options)

    def to(self, output: object) -> Arguments:
        return ("compile", self.source, "-o", output)

    def recipe(self, text: str) -> Arguments:
        path = self.folder / "recipe.toml"
        path.write_text(text)
        return ("compile", "--recipe", path)

    def config(self, **changes: object) -> Arguments:
        """Change keys of config.json; None removes one."""
        values = json.loads((self.source / "config.json").read_text()) | changes
        kept = {key: value for key, value in values.items() if value is not None}
        return self.file("config.json", json.dumps(kept))

    def file(self, name: str, content: str | bytes) -> Arguments:
        data = content.encode() if isinstance(content, str) else content
        (self.source / name).write_bytes(data)
        return self.compile()

    def without(self, name: str) -> Arguments:
        (self.source / name).unlink()
        return self.compile()

    def folder_named(self, name: str) -> Arguments:
        """A folder where a file should be."""
        self.without(name)
        (self.source / name).mkdir()
        return self.compile()

    def tensor(self, change: Callable[[Any], Any], name: str = GATE) -> Arguments:
        """Change the gate weight and store it as `name`; None leaves it out."""
        path = self.source / "model.safetensors"
        held = dict(load_file(path))
        changed = change(held[GATE])
        if changed is None:
            del held[name]
        else:
            held[name] = np.ascontiguousarray(changed)
        save_file(held, path)
        return self.compile()

    def weights(self, change: Change) -> Arguments:
        """Change the bytes of the safetensors file."""
        return self.file(
            "model.safetensors", change((self.source / "model.safetensors").read_bytes())
        )

    def header(self, change: Callable[[dict[str, Any]], object]) -> Arguments:
        """Change the safetensors header and leave the tensors."""

        def spoil(data: bytes) -> bytes:
            end = 8 + int.from_bytes(data[:8], "little")
            header = json.loads(data[8:end])
            change(header)
            text = json.dumps(header).encode()
            return struct.pack("<Q", len(text)) + text + data[end:]

        return self.weights(spoil)

    def sharded(self, weight_map: object) -> Arguments:
        """The weights as one shard of an index."""
        (self.source / "model.safetensors").rename(self.source / "a.safetensors")
        return self.file("model.safetensors.index.json", json.dumps({"weight_map": weight_map}))

    # run

    def run(self, prompt: str, *options: object) -> Arguments:
        return ("run", self.archive, prompt, *options)

    def ids(self, *options: object) -> Arguments:
        return self.run("1 2", "--ids", *options)

    def bytes(self, change: Change, *options: object) -> Arguments:
        self.archive.write_bytes(change(self.archive.read_bytes()))
        return self.ids(*options)

    def archive_header(self, **changes: object) -> Arguments:
        """Change the archive's header and its checksum with it."""

        def change(data: bytes) -> bytes:
            header = format.parse_header(data[: format.HEADER_NBYTES], "test")
            return replace(header, **changes).pack() + data[format.HEADER_NBYTES :]  # type: ignore[arg-type]

        return self.bytes(change)

    def flip_in(self, section: str, *options: object) -> Arguments:
        """Flip a bit of a section's last byte."""
        end = self.section(section).end
        return self.bytes(flip(end - 1), *options)

    def section(self, name: str) -> sections.Section:
        """A section by the start of its name."""
        entries = open_archive(self.archive).entries
        return next(entry for entry in entries.values() if entry.name.startswith(name))

    def forge(self, change: Callable[[Forgery], object], drop: str = "") -> Arguments:
        """Write the archive anew, with valid hashes, after a change (and without a section)."""
        archive = open_archive(self.archive)
        parts = [
            (name, entry.kind, bytes(archive.section(name)))
            for name, entry in archive.entries.items()
            if name != drop
        ]
        forgery = Forgery.of(parts)
        change(forgery)
        self.archive.write_bytes(forgery.bytes())
        return self.ids()

    def program(self, change: Callable[[Program], Program]) -> Arguments:
        """Replace the program by a changed one, with valid hashes."""
        archive = open_archive(self.archive)
        parts = [
            (name, entry.kind, bytes(archive.section(name)))
            for name, entry in archive.entries.items()
        ]
        changed = dumps(change(archive.program))
        parts = [(n, k, changed if n == sections.PROGRAM else data) for n, k, data in parts]
        self.archive.write_bytes(Forgery.of(parts).bytes())
        return self.ids()


def make_desk(folder: Path) -> Desk:
    """A good one."""
    desk = Desk(folder)
    write_checkpoint(desk.source, SHAPE)
    (desk.source / "tokenizer.json").write_text(json.dumps(TOKENIZER))
    assert hearth("compile", desk.source, "-o", desk.archive) == 0
    return desk


def copy_desk(good: Desk, folder: Path) -> Desk:
    """A copy to spoil."""
    fresh = Desk(folder)
    fresh.source.mkdir(parents=True)
    for path in good.source.iterdir():
        (fresh.source / path.name).write_bytes(path.read_bytes())
    fresh.archive.write_bytes(good.archive.read_bytes())
    return fresh


def flip(place: int) -> Change:
    """One bit of the byte at a place (negative: from the end)."""

    def change(data: bytes) -> bytes:
        spoiled = bytearray(data)
        spoiled[place] ^= 1
        return bytes(spoiled)

    return change


def put(value: float) -> Callable[[Any], Any]:
    """A weight with one value replaced."""

    def change(weight: Any) -> Any:
        weight[3, 5] = value
        return weight

    return change


def swap_rows(first: str, second: str) -> Callable[[Forgery], object]:
    """Two sections under each other's name."""

    def change(forgery: Forgery) -> None:
        one, other = forgery.row(first), forgery.row(second)
        one[0], other[0] = other[0], one[0]

    return change


def far_operand(program: Program) -> Program:
    """The first operand of the first command of decode reaches outside its region."""
    entry = program.entries["decode"]
    command = entry.commands[0]
    operand = command.operands[0]
    assert operand is not None
    moved = replace(command, operands=(replace(operand, offset=1 << 40), *command.operands[1:]))
    changed = replace(entry, commands=(moved, *entry.commands[1:]))
    return replace(program, entries={**program.entries, "decode": changed})
