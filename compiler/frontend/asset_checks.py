"""The runtime must be able to read what travels with the weights; better refused now than at the first prompt."""

from __future__ import annotations

from pathlib import Path

from hearth.compiler.frontend.assets import Assets
from hearth.runtime.generation.defaults import Wishes, read_defaults
from hearth.runtime.text.chat_template import ChatTemplate
from hearth.runtime.text.tokenizer import parse_tokenizer
from hearth.schemas.errors import CheckpointError, HearthError

UNUSUAL = "zyx \u2603 9"  # what few vocabularies hold whole


def check_assets(assets: Assets, directory: Path) -> None:
    """Reads tokenizer, chat template and generation defaults with the runtime's own readers."""
    _check_tokenizer(assets, directory)
    _check_template(assets, directory)
    _check_generation(assets, directory)


def _check_tokenizer(assets: Assets, directory: Path) -> None:
    if assets.tokenizer_json is None:
        return
    try:
        parse_tokenizer(assets.tokenizer_json, assets.tokenizer_config).encode(UNUSUAL)
    except HearthError as error:
        raise CheckpointError(
            "checkpoint.tokenizer_invalid",
            error.found,
            where=str(directory / "tokenizer.json"),
            remedy="fetch it again, or save it anew with transformers",
        ) from None


def _check_template(assets: Assets, directory: Path) -> None:
    if assets.chat_template is None:
        return
    try:
        assets.chat_template.encode()
        ChatTemplate(assets.chat_template, {})
    except (HearthError, UnicodeEncodeError) as error:
        raise CheckpointError(
            "checkpoint.chat_template",
            error.found
            if isinstance(error, HearthError)
            else "the chat template is no Unicode text",
            where=str(directory),
            remedy="correct or remove chat_template.jinja, or chat_template in tokenizer_config.json",
        ) from None


def _check_generation(assets: Assets, directory: Path) -> None:
    """What `hearth run` would take from it without a word on the command line."""
    try:
        read_defaults(assets.generation_config, assets.eos_ids).request(Wishes(), 0)
    except HearthError as error:
        raise CheckpointError(
            "checkpoint.generation_config",
            error.found,
            expected=error.expected,
            where=str(directory / "generation_config.json"),
            remedy="correct or remove it",
        ) from None
