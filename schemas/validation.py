"""The JSON Schemas of an archive's parts and of recipes, and the words in which they refuse.

The data model is msgpack's: an integer is no float, a number is finite. Needs jsonschema, which the
compiler and the tests have; a device that only runs models decodes strictly without it (codec.py).
"""

from __future__ import annotations

import json
from functools import cache
from importlib import resources
from typing import Any

from hearth.schemas.bounds import is_integer, is_number
from hearth.schemas.errors import MissingError

NAMES = (
    "manifest",
    "program",
    "kv_layout",
    "weights_index",
    "graph",
    "golden",
    "prompt",
    "provenance",
    "signature",
    "recipe",
)


@cache
def schema(name: str) -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of one part."""
    file = resources.files("hearth.schemas") / "json" / f"{name}.schema.json"
    loaded: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return loaded


@cache
def validator(name: str) -> Any:
    """A jsonschema validator over plain msgpack data."""
    try:
        import jsonschema
    except ImportError:
        remedy = 'pip install "hearth[compiler]"'
        raise MissingError(
            "missing.jsonschema", "jsonschema is not installed", remedy=remedy
        ) from None
    base = jsonschema.Draft202012Validator
    types = base.TYPE_CHECKER.redefine("integer", _is_integer).redefine("number", _is_number)
    return jsonschema.validators.extend(base, type_checker=types)(schema(name))


def problems(name: str, data: Any) -> list[Any]:
    """All complaints about plain data, in the order of their paths."""
    found = validator(name).iter_errors(data)
    return sorted(found, key=lambda error: [str(step) for step in error.absolute_path])


def first_problem(name: str, data: Any) -> Any | None:
    """The first complaint, or None where the data fits."""
    return next(iter(problems(name, data)), None)


def _is_integer(_checker: Any, value: Any) -> bool:
    return is_integer(value)


def _is_number(_checker: Any, value: Any) -> bool:
    return is_number(value)
