"""Archives for tests: a tiny well-formed model, and files forged byte by byte from schemas/FORMAT.md."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from zlib import crc32

import msgpack

from hearth.runtime.archive import ArchiveWriter
from hearth.schemas.codec import dumps
from hearth.schemas.commands import KVScheme, Layout
from hearth.schemas.golden import (
    ChatCase,
    DrawnPort,
    Golden,
    GraphCase,
    Numbers,
    Ranked,
    Sampled,
    TextCase,
    TokensCase,
    Turn,
    VectorCase,
)
from hearth.schemas.graph import Engine, GraphPort, Operators, Plan, Step, StoredTensor
from hearth.schemas.kv_layout import KVHalf, KVLayer, KVLayout, Span
from hearth.schemas.manifest import Dims, Manifest, ModelKind, SchemeNames
from hearth.schemas.program import Command, Entry, Operand, Port, Program, Region, Rows
from hearth.schemas.provenance import ArenaFacts, Provenance, SourceFile
from hearth.schemas.weights_index import TensorEntry, WeightsIndex

MAGIC = b"\x89HAR\r\n\x1a\n"
WEIGHTS = bytes(range(256)) * 20
IO_TOKENS = Operand(Region.IO, 0, 16, 4, 0)
IO_LOGITS = Operand(Region.IO, 64, 4 * 4 * 32, 128, 3)
TOKENS = Port("tokens", Rows.T, 0, IO_TOKENS)
LOGITS = Port("logits", Rows.R, 32, IO_LOGITS)


def manifest() -> Manifest:
    return Manifest(
        hearth="0.1.0", kind=ModelKind.DECODER, family="llama", source="tiny", fingerprint="ab" * 32,
        dims=Dims(1, 16, 2, 1, 8, 32, 32), embedding=None, context=16, chunk=4,
        schemes=SchemeNames("int8", "int8", "dynamic", "int8"),
        targets=("x86-64",), entries=("prefill",), parameters=1024, bos=1, eos=(2, 3),
    )  # fmt: skip


def program() -> Program:
    row = Operand(Region.ARENA, 0, 256, 64, 1)
    commands = (
        Command("embed", Rows.T, (IO_TOKENS, Operand(Region.WEIGHTS, 0, 640), row), (32, 16, 2, 0)),
        Command("rms_norm", Rows.R, (row, None, replace(row, offset=256, value=2)), (16,), (1e-5,)),
        Command(
            "linear", Rows.R,
            (
                replace(row, offset=256, value=2), Operand(Region.WEIGHTS, 640, 640), None, None,
                IO_LOGITS,
            ),
            (32, 16, 2, 0, 0),
        ),
    )  # fmt: skip
    entry = Entry(commands, (TOKENS,), (LOGITS,), (0,), {Rows.T: 4, Rows.R: 4}, 512)
    return Program({"prefill": entry}, len(WEIGHTS), 1024, 1024)


def kv_layout() -> KVLayout:
    k = KVHalf(Span(0, 256), Span(256, 64))
    v = KVHalf(Span(320, 256), Span(576, 64))
    return KVLayout((KVLayer(k, v, 1, 8, 16, KVScheme.INT8),), 1024)


def weights_index() -> WeightsIndex:
    return WeightsIndex(
        (
            TensorEntry("embed", 0, 640, Layout.Q8B16, (32, 16), 0, False, 512),
            TensorEntry("norm", 640, 64, None, (16,), 0, False, 16),
        )
    )


def plan() -> Plan:
    port = GraphPort("x", "tensor(float)", (1, "n"))
    step = Step(Engine.ONNX, "onnx/0", ("x",), ("y",), (0,))
    tensor = StoredTensor("w", 1, (2, 3), 0, 24)
    why = Operators(0, "Add", 2, "why")
    return Plan((port,), (replace(port, shape=None),), (step,), (tensor,), (why,), ("because",))


def golden() -> Golden:
    numbers = Numbers((1, 2), "ab", (0.5, -1.0))
    turns = (Turn("user", "a"),)
    sampled = Sampled("float32", (2,), "ab", (1.0, 2.0), 2.0)
    return Golden(
        (TokensCase((1, 2), "ab", (Ranked(3, 0.5),), (3, 4), "cd"),),
        (VectorCase((1,), (0,), numbers, numbers),),
        (GraphCase(1, {"x": DrawnPort("float32", (2,))}, {"y": sampled}, 0.25),),
        (TextCase("a", (1,), "a"),),
        (ChatCase(turns, True, "a", (1,), ""),),
    )


def provenance() -> Provenance:
    files = (SourceFile("config.json", 12, "ab"),)
    recipe = {"weights": "int4", "group_size": 32, "context": None}
    arena = {"prefill": ArenaFacts(64, 64)}
    return Provenance(
        "0.1.0",
        {"numpy": "2"},
        "tiny",
        "ab",
        files,
        recipe,
        ("cse",),
        None,
        arena,
        {"program": "ab"},
    )


def model_sections(**parts: Any) -> list[tuple[str, str, bytes]]:
    """(name, kind, bytes) of the tiny model; `parts` replace a typed part or give its bytes."""
    typed = {
        "manifest": manifest(), "program": program(), "kv_layout": kv_layout(),
        "weights_index": weights_index(), **parts,
    }  # fmt: skip
    packed = {
        kind: value if isinstance(value, bytes) else dumps(value) for kind, value in typed.items()
    }
    names = {"weights_index": "weights.index"}
    rows = [(names.get(kind, kind), kind, data) for kind, data in packed.items()]
    return [*rows, ("tokenizer", "tokenizer", b'{"a": 1}'), ("weights/x86-64", "weights", WEIGHTS)]


def write(path: Path, sections: Sequence[tuple[str, str, bytes]], **options: Any) -> Path:
    with ArchiveWriter(path, **options) as writer:
        for name, kind, data in sections:
            writer.add(name, kind, data)
    return path


def write_model(path: Path, **parts: Any) -> Path:
    return write(path, model_sections(**parts))


def align_of(kind: str) -> int:
    return 4096 if kind == "weights" else 64


def padding(size: int, to: int) -> bytes:
    return bytes(-size % to)


@dataclass
class Forgery:
    """The pieces of a file, each of which a test may spoil before bytes() seals hash and CRC."""

    body: bytes = b""  # what follows the header, up to the directory
    rows: list[list[Any]] = field(default_factory=list)
    features: dict[str, int] = field(default_factory=dict)
    directory: bytes | None = None  # instead of rows and features
    header: dict[str, int] = field(default_factory=dict)  # version, features, file, offset, nbytes

    @classmethod
    def of(cls, sections: Sequence[tuple[str, str, bytes]]) -> Forgery:
        body, rows = b"", []
        for name, kind, data in sections:
            body += padding(64 + len(body), align_of(kind))
            rows.append([name, kind, 64 + len(body), len(data), hashlib.sha256(data).digest()])
            body += data
        return cls(body + padding(len(body), 64), rows)

    def row(self, name: str) -> list[Any]:
        return next(row for row in self.rows if row[0] == name)

    def bytes(self) -> bytes:
        directory = self.directory
        if directory is None:
            directory = msgpack.packb({"features": self.features, "sections": self.rows})
        offset = 64 + len(self.body)
        digest = hashlib.sha256(directory).digest()[:16]
        bits = sum(1 << bit for bit in self.features.values())
        values = {
            "version": 2, "features": bits, "file": offset + len(directory), "offset": offset,
            "nbytes": len(directory), **self.header,
        }  # fmt: skip
        return sealed(values, digest) + self.body + directory


def sealed(values: dict[str, int], digest: bytes) -> bytes:
    """A header with its CRC."""
    rest = [values[name] for name in ("features", "file", "offset", "nbytes")]
    layout = struct.Struct("<8sIIQQQQ16s")
    crc = crc32(layout.pack(MAGIC, values["version"], 0, *rest, digest))
    return layout.pack(MAGIC, values["version"], crc, *rest, digest)
