"""What the frontend asks of a model family: to read a config.json and give a blueprint."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from hearth.compiler.frontend.coding import Coding
from hearth.compiler.frontend.fields import Fields
from hearth.compiler.frontend.sentence import PLAIN, Sentence
from hearth.compiler.ir.graph import Graph
from hearth.compiler.ir.tensors import GroupedSource, Source
from hearth.schemas.commands import KVScheme
from hearth.schemas.errors import UsageError
from hearth.schemas.manifest import Dims, Embedding, ModelKind

DEFAULT_CONTEXT = 4096

Weights = Callable[[str], Source | GroupedSource]
"""The tensor of a name, or the codes that are stored in its place."""
Sources = Callable[[str], Source]
"""The tensor of a name."""


@dataclass(frozen=True)
class Request:
    """What one compile asks for: the context (None: as the model suggests), the KV scheme, the vector of a text.

    `headless`: of a decoder without a head, whose rows make vectors and nothing else.
    """

    context: int | None
    kv: KVScheme
    sentence: Sentence = PLAIN
    headless: bool = False


@dataclass(frozen=True)
class Blueprint:
    """What a config asks for: the graph that `build` makes, of tensors whose stored shapes `shapes` tells one by one.

    Tensor names are canonical. In a checkpoint they may begin as in `beginnings`, lack the `stem`, and end as in
    `endings` (what is stored -> what is canonical). `head` names the tensor of logits. `ignored` are patterns (fnmatch)
    of tensors that have no part in the result; `repeats` names tensors that may be there again under another name, with
    the same values. `hints` tell what to do when a tensor is missing.
    """

    kind: ModelKind
    dims: Dims
    context: int
    shapes: Callable[[], Iterator[tuple[str, tuple[int, ...]]]]
    build: Callable[[Weights], Graph]
    beginnings: Mapping[str, str] = field(default_factory=dict)
    stem: str = ""
    head: str = ""
    endings: Mapping[str, str] = field(default_factory=dict)
    ignored: tuple[str, ...] = ()
    repeats: Mapping[str, str] = field(default_factory=dict)
    hints: Mapping[str, str] = field(default_factory=dict)
    embedding: Embedding | None = None
    coding: Coding | None = None
    notes: tuple[str, ...] = ()


def floats(weights: Weights) -> Sources:
    """The same tensors for a block that is built of floats alone, whose blueprint has no coding."""

    def source(name: str) -> Source:
        found = weights(name)
        if isinstance(found, GroupedSource):
            raise TypeError(f"{name} is stored as codes")
        return found

    return source


class Family(Protocol):
    """A family: data for a block that is there already, or a file with a block of its own."""

    @property
    def model_type(self) -> str: ...

    @property
    def architectures(self) -> tuple[str, ...]: ...

    @property
    def bodies(self) -> tuple[str, ...]:
        """Architectures without a head, where the family's block is compiled without one."""
        ...

    def blueprint(self, fields: Fields, request: Request) -> Blueprint:
        """Reads all keys that matter; what changes the result and is not supported is refused by name."""
        ...


def choose_context(asked: int | None, limit: int, suggested: int, where: str) -> int:
    """The context length: asked for, or what the model suggests, at most 4096."""
    if asked is None:
        return min(suggested, DEFAULT_CONTEXT)
    if not 1 <= asked <= limit:
        raise UsageError(
            "context.out_of_range",
            f"context {asked}",
            expected=f"1 to {limit}, which the model was made for",
            where=where,
            remedy="choose a smaller --context",
        )
    return asked
