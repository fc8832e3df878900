"""Options that several commands have: where to compute, how to choose tokens."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Annotated, cast

import typer

from hearth.runtime.options import Placing

if TYPE_CHECKING:
    from hearth.runtime.generation.defaults import Asked

ThreadsOption = Annotated[
    int | None, typer.Option("--threads", help="HEARTH_THREADS, else the cores there are")
]
IsaOption = Annotated[
    str | None,
    typer.Option("--isa", help="highest instruction set to use; HEARTH_ISA, else the best"),
]
JsonOption = Annotated[bool, typer.Option("--json", help="print one JSON object")]


@dataclass(frozen=True)
class PlacingOptions(Placing):
    """Where threads stay, and what becomes of pages."""

    affinity: Annotated[
        str | None,
        typer.Option(
            help="the cores to compute on, a thread each: 0-3,8 or a mask such as 0x10f; HEARTH_AFFINITY"
        ),
    ] = None
    prefill_affinity: Annotated[
        str | None, typer.Option(help="decoder: the cores while it reads prompts")
    ] = None
    decode_affinity: Annotated[
        str | None, typer.Option(help="decoder: the cores while it makes single tokens")
    ] = None
    prefault: Annotated[
        bool, typer.Option("--prefault", help="read the whole archive into memory first")
    ] = False
    huge_pages: Annotated[
        bool,
        typer.Option(
            "--huge-pages",
            help="as --prefault, and from the disk again where it lies in small pages, which are slower",
        ),
    ] = False
    lock: Annotated[bool, typer.Option("--lock", help="keep the archive in memory (mlock)")] = False


@dataclass(frozen=True)
class SamplingOptions:
    """How tokens are chosen and when a text ends; what is left out follows the archive."""

    max_tokens: Annotated[
        int | None, typer.Option(help="end after this many tokens; else where the context is full")
    ] = None
    temperature: Annotated[float | None, typer.Option(help="0: always the best token")] = None
    top_k: Annotated[int | None, typer.Option(help="choose among the k best; 0: all")] = None
    top_p: Annotated[
        float | None,
        typer.Option(help="choose among the best tokens that make up this probability"),
    ] = None
    min_p: Annotated[
        float | None,
        typer.Option(
            help="choose among tokens with at least this share of the best one's probability"
        ),
    ] = None
    repetition_penalty: Annotated[
        float | None,
        typer.Option(help="divide the logits of tokens that were there before; 1: none"),
    ] = None
    seed: Annotated[int | None, typer.Option(help="the same seed gives the same text")] = None
    stop: Annotated[
        list[str] | None, typer.Option(help="end before this text; may be given several times")
    ] = None

    def asked(self) -> Asked:
        """As keyword arguments of `Model.generate`."""
        from hearth.runtime.generation.defaults import Asked

        names = [field.name for field in fields(self) if field.name in Asked.__annotations__]
        given = {name: getattr(self, name) for name in names}
        return cast(Asked, given | {"stop": self.stop or ()})
