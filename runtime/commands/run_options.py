"""The options of `hearth run`, by the kind of archive that they are for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from hearth.schemas.errors import UsageError
from hearth.schemas.manifest import ModelKind


@dataclass(frozen=True)
class DecoderOptions:
    """How to continue a prompt."""

    chat: bool = False
    system: str | None = None
    max_tokens: int | None = None
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    typical_p: float | None = None
    repetition_penalty: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    penalty_window: int | None = None
    logit_bias: tuple[str, ...] = ()  # TOKEN=BIAS
    logprobs: int | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()
    ignore_eos: bool = False
    draft: str | None = None
    adapter: str | None = None


@dataclass(frozen=True)
class FormOptions:
    """What the answer must look like: at most one of them."""

    json_object: bool = False
    json_schema: Path | None = None
    regex: str | None = None
    grammar: Path | None = None


@dataclass(frozen=True)
class EncoderOptions:
    """What to make vectors of."""

    pair: str | None = None
    hidden: bool = False


@dataclass(frozen=True)
class TextOptions:
    """What decoders and encoders read."""

    prompt: str | None = None
    ids: bool = False
    stats: bool = False


@dataclass(frozen=True)
class GraphOptions:
    """Where arrays come from and go to."""

    input: tuple[str, ...] = ()
    output_dir: Path | None = None


@dataclass(frozen=True)
class RunOptions:
    """Everything after the file; `load_s` is what loading took."""

    text: TextOptions
    decoder: DecoderOptions
    form: FormOptions
    encoder: EncoderOptions
    graph: GraphOptions
    as_json: bool
    load_s: float


GROUPS: Mapping[ModelKind, tuple[str, ...]] = {
    ModelKind.DECODER: ("text", "decoder", "form"),
    ModelKind.ENCODER: ("text", "encoder"),
    ModelKind.GRAPH: ("graph",),
}


def check_options(options: RunOptions, kind: ModelKind) -> None:
    """Refuses options that mean nothing for the archive."""
    groups = {name for each in GROUPS.values() for name in each} - set(GROUPS[kind])
    strange = [name for group in sorted(groups) for name in _changed(getattr(options, group))]
    if strange:
        raise UsageError(
            "arguments.kind",
            f"{', '.join(strange)} with an archive that is {ARTICLE[kind]} {kind}",
            expected=f"only options for {ARTICLE[kind]} {kind}",
            remedy="hearth run --help says which option is for what",
        )


ARTICLE: Mapping[ModelKind, str] = {
    ModelKind.DECODER: "a",
    ModelKind.ENCODER: "an",
    ModelKind.GRAPH: "a",
}


def _changed(options: Any) -> list[str]:
    """The options that were given, as the command line spells them."""
    default = type(options)()
    names = [
        field.name
        for field in fields(options)
        if getattr(options, field.name) != getattr(default, field.name)
    ]
    return ["a prompt" if name == "prompt" else f"--{name.replace('_', '-')}" for name in names]


def biases(options: tuple[str, ...]) -> dict[int, float]:
    """TOKEN=BIAS as numbers; UsageError `arguments.logit_bias` for anything else."""
    found: dict[int, float] = {}
    for option in options:
        token, _, bias = option.partition("=")
        try:
            number, amount = int(token), float(bias)
        except ValueError:
            raise _bad_bias(f"{option!r}") from None
        if number in found:
            raise _bad_bias(f"token {number} twice")
        found[number] = amount
    return found


def _bad_bias(found: str) -> UsageError:
    return UsageError(
        "arguments.logit_bias",
        f"--logit-bias is {found}",
        expected="TOKEN=BIAS, such as 17=-5, each token once",
        remedy="hearth run --ids --json shows the ids of tokens",
    )
