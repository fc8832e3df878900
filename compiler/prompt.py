"""What `--prompt-cache` asks of a source, before the long part of a compile starts."""

from __future__ import annotations

from hearth.compiler.frontend import SourceModel
from hearth.schemas.errors import UsageError
from hearth.schemas.manifest import ModelKind


def require_prompt(model: object, prompt: str | None) -> None:
    """Refuses what has no cache to keep, no tokenizer to read the text, or no text: UsageError usage.prompt_cache."""
    if prompt is None:
        return
    if not isinstance(model, SourceModel) or model.kind is not ModelKind.DECODER:
        raise _refusal("a prompt for a model without a cache", "a decoder")
    if model.assets.tokenizer_json is None:
        raise _refusal("a prompt for a model without a tokenizer", "a source with tokenizer.json")
    if not prompt.strip():
        raise _refusal("an empty prompt", "a system message")


def _refusal(found: str, expected: str) -> UsageError:
    return UsageError(
        "usage.prompt_cache", found, expected=expected, remedy="leave out --prompt-cache"
    )
