"""Schemes: how weights, activations and the KV cache are coded, and by which methods. A scheme is a value."""

from __future__ import annotations

from dataclasses import dataclass, fields
from enum import StrEnum
from fnmatch import fnmatchcase

from hearth.schemas.commands import KVScheme
from hearth.schemas.errors import UsageError
from hearth.schemas.recipe import ActivationsName

Activations = ActivationsName


class Form(StrEnum):
    """What a weight is stored as."""

    FLOAT = "float"
    INTEGER = "integer"  # codes times an integer per group (or none) times a scale per channel
    TABLE = "table"  # codes index a table of int8 levels per tensor, times likewise


@dataclass(frozen=True)
class WeightScheme:
    """Weights of `bits` bits; `group` K-values share an integer multiplier (0: none), a channel a float scale."""

    name: str
    bits: int
    group: int = 0
    form: Form = Form.INTEGER

    @property
    def quantised(self) -> bool:
        """Whether the weights become integer codes."""
        return self.form is not Form.FLOAT

    @property
    def written(self) -> str:
        """The name with its group, as in a recipe's `tensors`: int6_g64."""
        return f"{self.name}_g{self.group}" if self.group else self.name


GROUPS = (32, 64, 128)
DEFAULT_GROUP = 32


def _grouped(name: str, bits: int, form: Form = Form.TABLE) -> tuple[WeightScheme, ...]:
    return tuple(WeightScheme(name, bits, group, form) for group in GROUPS)


F32 = WeightScheme("f32", 32, form=Form.FLOAT)  # the checkpoint's values as they are
F16 = WeightScheme("f16", 16, form=Form.FLOAT)
INT8 = WeightScheme("int8", 8)
INT4_G32, INT4_G64, INT4_G128 = _grouped("int4", 4, Form.INTEGER)
LINEAR = tuple(each for bits in (2, 3, 5, 6) for each in _grouped(f"int{bits}", bits))
NF4 = _grouped(
    "nf4", 4
)  # the quantiles of a normal distribution: Dettmers et al. 2023, arXiv:2305.14314
LEARNED = tuple(each for bits in (2, 3, 4, 5, 6) for each in _grouped(f"lut{bits}", bits))

WEIGHT_SCHEMES = (F32, F16, INT8, INT4_G32, INT4_G64, INT4_G128, *LINEAR, *NF4, *LEARNED)


@dataclass(frozen=True)
class Methods:
    """How codes are found. Rounding to nearest, where neither `gptq` nor `lwc` is asked for.

    gptq: errors are passed on to the columns still to be coded (Frantar et al. 2022, arXiv:2210.17323). gptaq: the
    same, and weights make up for what the layers before have lost (Li et al. 2025, arXiv:2504.02692). lwc: learnt
    clipping of each group (Shao et al. 2023, arXiv:2308.13137). importance: errors weighed by the mean square of their
    input. smoothquant: loud channels moved into the weights (Xiao et al. 2022, arXiv:2211.10438). quarot: the
    residual stream and the heads rotated (Ashkboos et al. 2024, arXiv:2404.00456); rotate_down: the input of the down
    projection too, at run time. tune: channels' scales and norms' gains fitted end to end (compiler/tune/fit.py).
    peaks: of smoothquant's channels only those that stand out, below 4 bits of norms alone.
    """

    gptq: bool = False
    gptaq: bool = False  # implies gptq
    lwc: bool = False
    importance: bool = False
    smoothquant: bool = False
    quarot: bool = False
    rotate_down: bool = False
    tune: bool = False
    peaks: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """As a recipe names them, in a fixed order."""
        chosen = tuple(
            each.name.replace("_", "-") for each in fields(self) if getattr(self, each.name)
        )
        if self.gptaq:
            chosen = tuple(name for name in chosen if name != "gptq")
        return chosen if self.gptq or self.lwc else (RTN, *chosen)

    @property
    def text(self) -> str:
        """The comma list of a recipe."""
        return ",".join(self.names)

    @property
    def listens(self) -> bool:
        """Whether the float model is run first, for how loud the channels of inputs are."""
        return self.smoothquant or self.peaks

    @property
    def second_order(self) -> bool:
        """Whether coding a weight needs the products of its inputs."""
        return self.gptq or self.lwc or self.importance


RTN = "rtn"
KNOWN_METHODS = (RTN, *(each.name.replace("_", "-") for each in fields(Methods)))


def parse_methods(text: str) -> Methods:
    """The methods of a comma list; UsageError usage.method for one that is unknown, or `rtn` beside its rivals."""
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name not in KNOWN_METHODS:
            raise UsageError(
                "usage.method",
                f"unknown method {name!r}",
                expected=f"a comma list of {', '.join(KNOWN_METHODS)}",
            )
    flags = {name.replace("-", "_"): True for name in names if name != RTN}
    chosen = Methods(**flags | ({"gptq": True} if "gptaq" in names else {}))
    if chosen.peaks and (chosen.smoothquant or chosen.quarot):
        raise UsageError(
            "usage.method",
            f"peaks together with {chosen.text}",
            remedy="leave out peaks: smoothquant and quarot quieten those channels too",
        )
    if RTN in names and RTN not in chosen.names:
        raise UsageError(
            "usage.method",
            f"rtn together with {chosen.text}",
            remedy="leave out rtn: it is what gptq and lwc replace",
        )
    return chosen


@dataclass(frozen=True)
class Scheme:
    """What `quantize` does: to the linears, to the embedding table (and a head tied to it), to activations, to KV.

    `overrides` are patterns of weights' names, each with the scheme of those it matches; the first match wins.
    """

    weights: WeightScheme = INT4_G32
    embeddings: WeightScheme = INT8
    activations: Activations = "dynamic"
    kv: KVScheme = KVScheme.INT8
    methods: Methods = Methods()
    overrides: tuple[tuple[str, WeightScheme], ...] = ()

    def override(self, name: str) -> WeightScheme | None:
        """The scheme that a weight of this name has of its own; None: that of its role."""
        found = (scheme for pattern, scheme in self.overrides if fnmatchcase(name, pattern))
        return next(found, None)

    @property
    def quantises(self) -> bool:
        """Whether any weight may become integer codes."""
        every = (self.weights, self.embeddings, *(scheme for _, scheme in self.overrides))
        return any(scheme.quantised for scheme in every)

    @property
    def static(self) -> bool:
        """Whether ranges of activations or of the cache are fixed when compiling."""
        return self.activations in ("static", "auto") or kv_name(self.kv) == "int8-static"

    @property
    def calibrated(self) -> bool:
        """Whether a text must be run to find codes or ranges."""
        methods = self.methods
        return self.static or methods.second_order or methods.listens or methods.tune


def weight_scheme(name: str, group: int = 0) -> WeightScheme:
    """The scheme of a name and a group size (0: the default, where the scheme has groups)."""
    named = [scheme for scheme in WEIGHT_SCHEMES if scheme.name == name]
    if not named:
        known = ", ".join(dict.fromkeys(scheme.name for scheme in WEIGHT_SCHEMES))
        raise UsageError(
            "usage.weights", f"unknown weight scheme {name!r}", expected=f"one of {known}"
        )
    wanted = group or (DEFAULT_GROUP if named[0].group else 0)
    for scheme in named:
        if scheme.group == wanted:
            return scheme
    groups = ", ".join(str(scheme.group) for scheme in named if scheme.group)
    raise UsageError(
        "usage.group_size",
        f"group size {group} for {name} weights",
        expected=f"one of {groups}" if groups else "no group size",
    )


def parse_scheme(written: str) -> WeightScheme:
    """The scheme of a written name: `int8`, `int6_g64`; without a group the default one. Errors of weight_scheme."""
    name, found, group = written.partition("_g")
    return (
        weight_scheme(name, int(group))
        if group.isdecimal()
        else weight_scheme(name + found + group)
    )


def kv_name(kv: KVScheme) -> str:
    """As a recipe writes it: int8-static."""
    return kv.name.lower().replace("_", "-")


def make_scheme(
    weights: WeightScheme,
    activations: Activations = "dynamic",
    kv: KVScheme = KVScheme.INT8,
    embeddings: WeightScheme | None = None,
    methods: Methods = Methods(),
    overrides: tuple[tuple[str, WeightScheme], ...] = (),
) -> Scheme:
    """A scheme with its defaults: an embedding table as the weights, but int8 where those are codes.

    Activations are quantised only for weights that are, and methods that choose codes want codes: UsageError
    usage.activations, usage.method.
    """
    default = INT8 if weights.quantised else weights
    scheme = Scheme(weights, embeddings or default, activations, kv, methods, overrides)
    if activations != "none" and not weights.quantised:
        raise UsageError(
            "usage.activations",
            f"{activations} activations with {weights.name} weights",
            expected="weights of 8 bits or fewer",
            remedy="use --activations none",
        )
    if (methods.second_order or methods.tune) and not scheme.quantises:
        raise UsageError(
            "usage.method",
            f"method {methods.text} with {weights.name} weights",
            expected="weights of 8 bits or fewer",
            remedy="leave out --method",
        )
    return scheme
