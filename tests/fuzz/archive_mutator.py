"""Mutations of an archive that keep its hashes right, so that they reach what lies behind the hash check."""

from __future__ import annotations

import hashlib
import random
import struct
from typing import Any

import msgpack
from support.archives import Forgery, sealed

from fuzz.values import mutate_value

HEADER = struct.Struct("<8sIIQQQQ16s")
TYPED = frozenset({"manifest", "program", "kv_layout", "weights_index", "graph", "golden"})


def mutate_archive(data: bytes, rng: random.Random) -> bytes | None:
    """The same file with one section changed and sealed again; None where the file is no archive."""
    try:
        values, rows = _parse(data)
    except (ValueError, IndexError, KeyError, TypeError, struct.error):
        return None
    if rng.random() < 0.1:
        return _sealed(values, data, mutate_value(rows, rng))
    name, kind, offset, nbytes, _ = rng.choice(rows)
    changed = _mutated(kind, data[offset : offset + nbytes], rng)
    body: list[tuple[str, str, bytes]] = []
    for row in rows:
        old = data[row[2] : row[2] + row[3]]
        body.append((row[0], row[1], changed if row[0] == name else old))
    forged = Forgery.of(body)
    forged.header["version"] = values["version"]
    return forged.bytes()


def _parse(data: bytes) -> tuple[dict[str, int], list[Any]]:
    _, version, _, features, file, offset, nbytes, _ = HEADER.unpack(data[:64])
    directory = msgpack.unpackb(data[offset : offset + nbytes], strict_map_key=False)
    rows = directory["sections"]
    if not rows or file > len(data) or not all(_is_row(row) for row in rows):
        raise ValueError("no rows")
    return {"version": version, "features": features, "offset": offset}, rows


def _is_row(row: Any) -> bool:
    kinds = [str, str, int, int, bytes]
    return isinstance(row, list) and [type(item) for item in row] == kinds


def _mutated(kind: str, content: bytes, rng: random.Random) -> bytes:
    """Typed sections change by value, others by bytes."""
    if kind in TYPED and rng.random() < 0.9:
        try:
            plain = msgpack.unpackb(content, strict_map_key=False)
            for _ in range(rng.choice((1, 1, 1, 2, 4))):
                plain = mutate_value(plain, rng)
            return bytes(msgpack.packb(plain))
        except (ValueError, OverflowError, TypeError, RecursionError):
            pass  # no longer msgpack, or a value it does not hold
    changed = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 8))):
        if changed:
            changed[rng.randrange(len(changed))] = rng.randrange(256)
    if rng.random() < 0.2:
        del changed[rng.randrange(len(changed) + 1) :]
    return bytes(changed)


def _sealed(values: dict[str, int], data: bytes, rows: Any) -> bytes:
    directory = bytes(msgpack.packb({"features": {}, "sections": rows}))
    header = {
        "version": values["version"], "features": values["features"],
        "file": values["offset"] + len(directory), "offset": values["offset"],
        "nbytes": len(directory),
    }  # fmt: skip
    digest = hashlib.sha256(directory).digest()[:16]
    return sealed(header, digest) + data[64 : values["offset"]] + directory
