"""Every part decodes strictly, and its plain data fits its JSON Schema where jsonschema is installed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from hearth.runtime.signing import read_signature
from hearth.runtime.verify.subject import Skip, Subject, mismatch
from hearth.schemas import sections
from hearth.schemas.codec import encode, loads
from hearth.schemas.errors import MissingError
from hearth.schemas.graph import Plan
from hearth.schemas.prompt import Prompt
from hearth.schemas.validation import first_problem


@dataclass(frozen=True)
class Part:
    """A structured section: its schema's name, and how it is read into its typed mirror."""

    schema: str
    section: str
    read: Callable[[Subject], Any]
    required: bool = False


PARTS = (
    Part("manifest", sections.MANIFEST, lambda subject: subject.archive.manifest, required=True),
    Part("program", sections.PROGRAM, lambda subject: subject.archive.program),
    Part("kv_layout", sections.KV_LAYOUT, lambda subject: subject.archive.kv_layout),
    Part("weights_index", sections.WEIGHTS_INDEX, lambda subject: subject.archive.weights_index),
    Part("graph", sections.GRAPH, lambda subject: _plan(subject)),
    Part("golden", sections.GOLDEN, lambda subject: subject.golden, required=True),
    Part("prompt", sections.PROMPT, lambda subject: _prompt(subject)),
    Part("provenance", sections.PROVENANCE, lambda subject: subject.provenance, required=True),
    Part("signature", sections.SIGNATURE, lambda subject: read_signature(subject.archive)),
)


def check_schemas(subject: Subject) -> str:
    """Refuses the first part that does not decode, then the first that its schema refuses."""
    parts = dict(_decoded(subject))
    try:
        for name, value in parts.items():
            _check(name, value, subject)
    except MissingError:
        return (
            f"{len(parts)} parts decode; their JSON Schemas need jsonschema, which is not installed"
        )
    return f"{len(parts)} parts decode and fit their JSON Schemas"


def _decoded(subject: Subject) -> Iterator[tuple[str, Any]]:
    """Schema name and typed value of each part there is."""
    for part in PARTS:
        if part.required or part.section in subject.archive.entries:
            try:
                yield part.schema, part.read(subject)
            except Skip:
                continue


def _prompt(subject: Subject) -> Prompt:
    data = subject.archive.section(sections.PROMPT)
    return loads(Prompt, data, sections.PROMPT, subject.where)


def _plan(subject: Subject) -> Plan:
    return loads(Plan, subject.archive.section(sections.GRAPH), sections.GRAPH, subject.where)


def _check(name: str, value: Any, subject: Subject) -> None:
    problem = first_problem(name, encode(value))
    if problem is not None:
        path = ".".join(str(step) for step in problem.absolute_path)
        raise mismatch("schema", f"{name} at {path or 'its root'}: {problem.message:.200}", subject)
