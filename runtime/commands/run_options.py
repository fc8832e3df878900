"""The options of `hearth run`, by the kind of archive that they are for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hearth.runtime.commands.common_options import SamplingOptions
from hearth.schemas.errors import UsageError
from hearth.schemas.manifest import ModelKind

if TYPE_CHECKING:
    from hearth.runtime.generation.defaults import Asked


@dataclass(frozen=True)
class TextOptions:
    """What decoders and encoders read."""

    prompt: Annotated[
        str | None,
        typer.Argument(
            help="the text to continue, or to make a vector of; - or nothing: standard input"
            " (of an encoder each line)"
        ),
    ] = None
    ids: Annotated[
        bool, typer.Option("--ids", help="the prompt is token ids, and ids are printed")
    ] = False
    stats: Annotated[
        bool, typer.Option("--stats", help="say times and rates on standard error")
    ] = False


@dataclass(frozen=True)
class DecoderOptions(SamplingOptions):
    """How to continue a prompt."""

    typical_p: Annotated[
        float | None,
        typer.Option(help="choose among the most typical tokens that make up this share"),
    ] = None
    presence_penalty: Annotated[
        float | None, typer.Option(help="subtract from the logits of tokens of the answer")
    ] = None
    frequency_penalty: Annotated[
        float | None,
        typer.Option(help="subtract it once for each time that a token is in the answer"),
    ] = None
    penalty_window: Annotated[
        int | None, typer.Option(help="penalties look at this many tokens; 0: all")
    ] = None
    logit_bias: Annotated[
        list[str] | None,
        typer.Option(help="TOKEN=BIAS, added to a token's logit; may be given several times"),
    ] = None
    logprobs: Annotated[
        int | None,
        typer.Option(
            help="with --json: log probabilities of the tokens, and of the N best beside each"
        ),
    ] = None
    ignore_eos: Annotated[
        bool, typer.Option("--ignore-eos", help="go on at the model's own end")
    ] = False
    chat: Annotated[
        bool, typer.Option("--chat", help="the prompt is a message, put into the chat template")
    ] = False
    system: Annotated[str | None, typer.Option(help="a system message; implies --chat")] = None
    draft: Annotated[
        str | None,
        typer.Option(
            help="guess tokens and verify several in one run, which changes no text: lookup, or the"
            " file of a smaller model with the same tokenizer"
        ),
    ] = None
    adapter: Annotated[
        str | None, typer.Option(help="an adapter of the archive: NAME or NAME:SCALE")
    ] = None

    def asked(self) -> Asked:
        """As keyword arguments of `Model.generate`; UsageError `arguments.logit_bias`."""
        asked = super().asked()
        asked["logit_bias"] = biases(self.logit_bias or ())
        return asked


@dataclass(frozen=True)
class FormOptions:
    """What the answer must look like: at most one of them."""

    json_object: Annotated[
        bool, typer.Option("--json-object", help="the answer is a JSON object")
    ] = False
    json_schema: Annotated[
        Path | None, typer.Option(help="the answer is JSON that fits this file's schema")
    ] = None
    regex: Annotated[str | None, typer.Option(help="the answer fits this regular expression")] = (
        None
    )
    grammar: Annotated[
        Path | None, typer.Option(help="the answer fits this file's grammar (Lark, GBNF)")
    ] = None


@dataclass(frozen=True)
class EncoderOptions:
    """What to make vectors of."""

    pair: Annotated[
        str | None, typer.Option(help="encoder: the second text, beside each of the first")
    ] = None
    hidden: Annotated[bool, typer.Option("--hidden", help="encoder: a vector for each token")] = (
        False
    )


@dataclass(frozen=True)
class GraphOptions:
    """Where arrays come from and go to."""

    input: Annotated[
        list[str] | None, typer.Option(help="graph: NAME=FILE.npy; once for each input")
    ] = None
    output_dir: Annotated[
        Path | None, typer.Option(help="graph: write each output here as .npy")
    ] = None


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


def biases(options: Sequence[str]) -> dict[int, float]:
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
