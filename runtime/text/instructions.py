"""Instructions before texts that become vectors, by name: config_sentence_transformers.json as it came."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from hearth.schemas.errors import UsageError


@dataclass(frozen=True)
class Instructions:
    """`texts` by name; `default` names the one that a text gets where the caller names none."""

    texts: Mapping[str, str] = field(default_factory=dict)
    default: str | None = None

    def before(self, name: str | None) -> str:
        """What stands before a text; UsageError `arguments.prompt_name` for a name that the archive does not have."""
        name = self.default if name is None else name
        if name is None:
            return ""
        if name not in self.texts:
            raise UsageError(
                "arguments.prompt_name",
                f"there is no instruction {name!r:.100}",
                expected=f"one of {', '.join(self.texts)}"
                if self.texts
                else "an archive with some",
                remedy="write it before the text itself",
            )
        return self.texts[name]


def parse_instructions(content: bytes) -> Instructions:
    """Of the file's bytes; ValueError says what is wrong with them."""
    values = json.loads(content)
    if not isinstance(values, dict):
        raise ValueError(f"a {type(values).__name__}, expected an object")
    texts, default = values.get("prompts") or {}, values.get("default_prompt_name")
    if not isinstance(texts, dict) or not all(isinstance(each, str) for each in texts.values()):
        raise ValueError("prompts are no texts by name")
    if default is not None and (not isinstance(default, str) or default not in texts):
        raise ValueError(f"default_prompt_name {default!r:.100} is none of {', '.join(texts)}")
    return Instructions(texts, default)
