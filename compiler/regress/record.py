"""The golden of a recipe: what its archive held, as JSON that a person can read in a review.

Everything in it is the same on every machine. `content` covers the rest; what is beside it says where to look.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hearth.runtime.archive import Archive
from hearth.runtime.archive.content import RECORDS, content_hash
from hearth.runtime.archive.files import unwritable
from hearth.runtime.diff.fields import field_changes, plain
from hearth.runtime.diff.findings import Change
from hearth.runtime.graphs.model import graph_model_of
from hearth.runtime.verify.graphs import graph_differences
from hearth.schemas import sections
from hearth.schemas.codec import decode, encode, loads
from hearth.schemas.errors import HearthError, InputError, UsageError
from hearth.schemas.golden import Golden, GraphCase
from hearth.schemas.program import Entry
from hearth.schemas.sections import Kind, Section

Record = dict[str, Any]
VERSION = 1
HASH_DIGITS = 16
LARGEST_NBYTES = 16 << 20


def record(archive: Archive) -> Record:
    """What an archive holds: hashes of its sections and tensors, its facts, its golden vectors."""
    golden = loads(Golden, archive.section(sections.GOLDEN), sections.GOLDEN, str(archive.path))
    counted = list(_counted(archive, golden))
    names = archive.entries
    found = {
        "version": VERSION,
        "content": content_hash(counted),
        "nbytes": sum(section.nbytes for section in counted),
        "format": archive.header.version,
        "sections": {section.name: _short(section.sha256) for section in counted},
        "offsets": {section.name: section.offset for section in counted},
        "manifest": plain(archive.manifest),
        "program": _program(archive) if sections.PROGRAM in names else {},
        "tensors": _tensors(archive) if archive.manifest.targets else {},
        "golden": _golden(golden),
    }
    return dict(json.loads(json.dumps(found)))  # as it will be read


def exact(golden: Golden) -> bool:
    """Whether every machine computes its vectors to the bit: no other engine had a part in them."""
    return all(case.tolerance == 0 for case in golden.graphs)


def _counted(archive: Archive, golden: Golden) -> Iterator[Section]:
    for section in archive.directory.sections:
        if section.kind == Kind.GOLDEN and not exact(golden):
            continue
        if section.kind not in RECORDS:
            yield section


def _short(digest: bytes) -> str:
    return digest.hex()[:HASH_DIGITS]


def _program(archive: Archive) -> dict[str, Any]:
    return {name: _entry(entry) for name, entry in archive.program.entries.items()}


def _entry(entry: Entry) -> dict[str, Any]:
    counts = Counter(command.op for command in entry.commands)
    return {"arena_nbytes": entry.arena_nbytes, "commands": dict(counts)}


def _tensors(archive: Archive) -> dict[str, str]:
    """Layout, shape and the hash of the packed bytes, of the first target."""
    data = archive.weights()
    return {
        tensor.name: " ".join(
            (
                "plain" if tensor.layout is None else tensor.layout.name.lower(),
                "x".join(map(str, tensor.shape)),
                _short(hashlib.sha256(data[tensor.offset :][: tensor.nbytes]).digest()),
            )
        )
        for tensor in archive.weights_index.tensors
    }


def _golden(golden: Golden) -> dict[str, Any]:
    """Vectors that run the model, as they are; of texts and chats a hash each."""
    whole: dict[str, Any] = encode(golden)
    texts = {case["text"]: _digest(case) for case in whole.pop("texts")}
    chats = [_digest(case) for case in whole.pop("chats")]
    return {**whole, "texts": texts, "chats": chats}


def _digest(value: Any) -> str:
    return _short(hashlib.sha256(json.dumps(value, sort_keys=True).encode()).digest())


def differences(wanted: Record, found: Record, archive: Archive) -> list[Change]:
    """What an archive no longer gives: equal records give none. Inexact vectors are replayed within their bound."""
    strict, again = dict(wanted), dict(found)
    if strict.get("nbytes") != again["nbytes"]:  # what grew moves what follows: that says nothing
        del again["offsets"]
        strict.pop("offsets", None)
    cases = _inexact(wanted) if sections.GRAPH in archive.entries else []
    if cases:
        strict["golden"], again["golden"] = _without_graphs(strict), _without_graphs(again)
    return [*field_changes(strict, again), *_replayed(cases, archive)]


def _replayed(cases: Sequence[GraphCase], archive: Archive) -> Iterator[Change]:
    """What recorded inputs no longer give."""
    for place, case in enumerate(cases):
        path = f"golden.graphs[{place}]"
        try:
            for problem in graph_differences(graph_model_of(archive, 1), case):
                yield Change(path, "recorded", problem)
        except InputError as error:  # other ports than it had
            yield Change(path, "recorded", str(error))


def _inexact(wanted: Record) -> list[GraphCase]:
    cases = (wanted.get("golden") or {}).get("graphs") or []
    if not any(case.get("tolerance") for case in cases):
        return []
    return [decode(GraphCase, case, "golden.graphs") for case in cases]


def _without_graphs(wanted: Record) -> Record:
    return {key: value for key, value in wanted["golden"].items() if key != "graphs"}


def read_record(path: Path) -> Record:
    """The golden in a file: UsageError regress.golden where there is none in it."""
    remedy = "write it again with hearth regress --update"
    try:
        if path.stat().st_size > LARGEST_NBYTES:
            raise ValueError(f"it has more than {LARGEST_NBYTES} bytes")
        found = json.loads(path.read_text(encoding="utf-8"))
        _require_shape(found)
    except (OSError, ValueError, RecursionError, HearthError) as error:
        text = f"no golden: {error}"
        raise UsageError("regress.golden", text, where=str(path), remedy=remedy) from None
    return dict(found)


def _require_shape(found: Any) -> None:
    if not isinstance(found, dict) or found.get("version") != VERSION:
        raise ValueError(f"expected a JSON object of version {VERSION}")
    if not all(isinstance(found.get(key), dict) for key in ("sections", "golden")):
        raise ValueError("it lacks sections or golden")
    _inexact(found)


def write_record(path: Path, value: Mapping[str, Any]) -> None:
    """Whole or not at all."""
    text = as_json(value) + "\n"
    try:
        with tempfile.NamedTemporaryFile(
            "w", dir=path.parent, prefix=f".{path.name}.", encoding="utf-8", delete=False
        ) as file:
            file.write(text)
        os.chmod(file.name, 0o644)
        os.replace(file.name, path)
    except OSError as error:
        raise unwritable(path, error, len(text)) from None


def as_json(value: Any, indent: str = "") -> str:
    """JSON with maps and lists of records a line per item, lists of numbers in one."""
    inner = indent + " "
    match value:
        case dict() if value:
            items = (f"{json.dumps(key)}: {as_json(value[key], inner)}" for key in value)
        case list() if any(isinstance(item, dict | list) for item in value):
            items = (as_json(item, inner) for item in value)
        case _:
            return json.dumps(value)
    opening, closing = "{}" if isinstance(value, dict) else "[]"
    return f"{opening}\n{inner}" + f",\n{inner}".join(items) + f"\n{indent}{closing}"
