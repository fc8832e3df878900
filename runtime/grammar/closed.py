"""Schemas whose objects hold what they list and nothing else, as those who ask for an answer mean them.

JSON Schema lets an object have any further keys unless `additionalProperties` forbids it, and few schemas say so
(pydantic's do not). A model that may go on with keys of its own does, small ones for ever.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from hearth.runtime.grammar.places import subschemas

# What speaks of the same object as `properties` beside it: neither of the two knows all of its keys.
JOINED = ("anyOf", "oneOf", "$ref", "not", "if", "dependentSchemas")
SPOKEN = ("additionalProperties", "patternProperties", "unevaluatedProperties")


def closed(schema: Any) -> Any:
    """The schema with `additionalProperties: false` wherever an object lists properties and says nothing of others.

    A schema that puts an object together of several parts stays as it is. What fits the result fits the schema.
    """
    parts = [part for _, part in subschemas(schema)]
    if any("allOf" in part or _is_joined(part) for part in parts):
        return schema
    made = json.loads(json.dumps(schema))
    for _, part in subschemas(made):
        if _is_open(part):
            part["additionalProperties"] = False
    return made


def _is_joined(part: Mapping[str, Any]) -> bool:
    return "properties" in part and any(word in part for word in JOINED)


def _is_open(part: Mapping[str, Any]) -> bool:
    """Whether it lists properties, all that it needs among them, and says nothing of others."""
    listed = part.get("properties")
    if not isinstance(listed, dict) or any(word in part for word in SPOKEN):
        return False
    required, least = part.get("required", []), part.get("minProperties", 0)
    if not isinstance(required, list) or not isinstance(least, int | float):
        return False  # of something that is no object, or it would have been refused
    return all(name in list(listed) for name in required) and least <= len(listed)
