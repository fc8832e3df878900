"""The recipe: one TOML file that says what to compile and how."""

from __future__ import annotations

import difflib
import reprlib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from hearth.schemas.bounds import Bounds
from hearth.schemas.codec import decode, encode
from hearth.schemas.errors import UsageError, reason
from hearth.schemas.validation import first_problem

WeightsName = Literal[
    "f32", "f16", "int8", "int4", "int2", "int3", "int5", "int6", "nf4",
    "lut2", "lut3", "lut4", "lut5", "lut6",
]  # fmt: skip
ActivationsName = Literal["none", "dynamic", "static", "auto"]
KVName = Literal["f32", "f16", "int8", "int8-static"]
RangeName = Literal["minmax", "percentile", "least-squares"]
PoolingName = Literal["mean", "cls", "last", "max", "none"]
GroupSize = Literal[32, 64, 128]
MOST_WINDOWS = 2**20
LONGEST = 2**24  # RoPE positions are f32, which holds every integer up to here
REQUIRED = ("source", "output")
PATHS = (*REQUIRED, "calibration", "work")
GIVEN = {"source": "SRC", "output": "-o FILE"}  # how the command line has what is required


NotNegative = Annotated[float, Bounds(0)]


@dataclass(frozen=True)
class Gate:
    """How far the compiled archive may be from its source on the inputs of `--check`; None: as far as it likes.

    `max_error` bounds the largest difference of the outputs over the source's largest output, `max_kld` the mean
    Kullback-Leibler divergence of a decoder's next tokens in nats, `min_top1` the share of equal best tokens,
    `max_ppl_increase` a decoder's perplexity over its source's, less 1; `max_bits` bounds the bits per weight.
    """

    max_error: NotNegative | None = None
    max_kld: NotNegative | None = None
    min_top1: Annotated[float, Bounds(0, 1)] | None = None
    max_ppl_increase: NotNegative | None = None
    max_bits: Annotated[float, Bounds(1, 32)] | None = None

    @property
    def asks(self) -> bool:
        """Whether anything is bounded."""
        return self != Gate()

    @property
    def allocates(self) -> bool:
        """Whether the compiler chooses the bits of each weight, so that all limits but `max_error` are kept."""
        return self.max_ppl_increase is not None or self.max_bits is not None


@dataclass(frozen=True)
class Recipe:
    """Everything `hearth compile` may vary; equal recipes over equal sources give equal bytes.

    `source` is a Hugging Face directory, an ONNX file, or a directory with an ONNX graph. `embeddings`, `group_size`,
    `activations` None: as the weights scheme suggests. `context` None: what the source was trained for. `pooling` None:
    as the files of an encoder say. `method` is a comma list (quantize/schemes.py), `tensors` gives the weights whose
    names a pattern matches (the first that does) a scheme of their own, as `int6_g64`. `calibration` is a text; its
    first `calibration_windows` windows of `calibration_context` tokens are run. `work` None: `<output>.work`.
    `prompt_cache` is a system message whose keys and values become part of the archive.
    Paths in a recipe's file start from its folder.
    """

    source: str
    output: str
    weights: WeightsName = "int4"
    embeddings: WeightsName | None = None
    group_size: GroupSize | None = None
    activations: ActivationsName | None = None
    kv: KVName = "int8"
    context: Annotated[int, Bounds(1, LONGEST)] | None = None
    target: str = "native"
    method: str = "rtn"
    pooling: PoolingName | None = None
    gate: Gate = Gate()
    tensors: Mapping[str, str] = field(default_factory=dict)
    calibration: str | None = None
    calibration_windows: Annotated[int, Bounds(1, MOST_WINDOWS)] = 32
    calibration_context: Annotated[int, Bounds(2, LONGEST)] = 512
    calibration_range: RangeName = "minmax"
    work: str | None = None
    prompt_cache: str | None = None


def parse_recipe(
    text: str,
    where: str = "recipe",
    overrides: Mapping[str, Any] | None = None,
    folder: Path | None = None,
) -> Recipe:
    """The recipe of a TOML text; `overrides` (the command line) win over its keys, None leaves them.

    With a folder, relative paths of the text start there; those of the overrides stay as they are.
    """
    try:
        data: dict[str, Any] = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        remedy = 'correct it; a line reads: weights = "int4"'
        found = f"not TOML: {error}"
        raise UsageError("recipe.syntax", found, where=where, remedy=remedy) from None
    if folder is not None:
        data |= {key: str(folder / data[key]) for key in PATHS if isinstance(data.get(key), str)}
    given = {key: value for key, value in (overrides or {}).items() if value is not None}
    return make_recipe({**data, **given}, where)


def read_recipe(path: Path, overrides: Mapping[str, Any] | None = None) -> Recipe:
    """The recipe in a file."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        remedy = "give the path of a TOML file"
        raise UsageError(
            "recipe.unreadable", reason(error), where=str(path), remedy=remedy
        ) from None
    return parse_recipe(text, str(path), overrides, path.parent)


def make_recipe(data: Mapping[str, Any], where: str = "recipe") -> Recipe:
    """The recipe of plain data: checked by its JSON Schema, absent keys filled with the defaults."""
    problem = first_problem("recipe", data)
    if problem is not None:
        raise _refusal(problem, where)
    return decode(Recipe, with_defaults(data), "recipe", where)


def with_defaults(data: Mapping[str, Any]) -> dict[str, Any]:
    """The same recipe with the keys it leaves out."""
    defaults: dict[str, Any] = encode(Recipe(source="", output=""))
    whole = {key: defaults[key] for key in defaults if key not in REQUIRED} | dict(data)
    if isinstance(whole["gate"], dict):
        whole["gate"] = defaults["gate"] | whole["gate"]
    return whole


def _refusal(problem: Any, where: str) -> UsageError:
    """A schema's complaint in the recipe's words."""
    path = ".".join(str(step) for step in problem.absolute_path)
    match problem.validator:
        case "additionalProperties":
            known = sorted(problem.schema["properties"])
            key = next(key for key in problem.instance if key not in known)
            near = difflib.get_close_matches(str(key), known, 1)
            return UsageError(
                "recipe.unknown_key",
                f"unknown key {'.'.join(filter(None, (path, str(key))))}",
                expected=f"one of {', '.join(known)}",
                where=where,
                remedy=f"did you mean {near[0]}?" if near else "remove it",
            )
        case "required":
            key = next(key for key in problem.validator_value if key not in problem.instance)
            return UsageError(
                "recipe.missing_key",
                f"{key} is missing",
                expected=f"{key} = ... in a recipe, or {GIVEN[key]} on the command line",
                where=where,
            )
        case "enum":
            expected = (
                f"one of {', '.join(str(value) for value in problem.validator_value if value)}"
            )
        case "type":
            types = problem.validator_value  # one, or one and null, which TOML does not have
            expected = f"a value of type {types if isinstance(types, str) else types[0]}"
        case "minimum" | "maximum":
            words = {"minimum": "at least", "maximum": "at most"}
            expected = f"{words[problem.validator]} {problem.validator_value}"
        case _:
            expected = f"{problem.validator} {problem.validator_value}"
    return UsageError(
        "recipe.value", f"{path} = {reprlib.repr(problem.instance)}", expected=expected, where=where
    )
