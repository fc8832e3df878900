"""`hearth run`: one command for archives of every kind; what is done is in run_<kind>.py."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from hearth.runtime.commands.arguments import checked
from hearth.runtime.commands.common_options import IsaOption, PlacingOptions, ThreadsOption
from hearth.runtime.commands.groups import spread
from hearth.runtime.commands.run_options import (
    DecoderOptions,
    EncoderOptions,
    FormOptions,
    GraphOptions,
    RunOptions,
    TextOptions,
    check_options,
)
from hearth.runtime.options import read_options
from hearth.runtime.progress import choose
from hearth.schemas.manifest import ModelKind


@spread
def run_command(
    file: Annotated[Path, typer.Argument(help="the .har file")],
    *,
    text: TextOptions,
    decoder: DecoderOptions,
    form: FormOptions,
    encoder: EncoderOptions,
    graph: GraphOptions,
    threads: ThreadsOption = None,
    isa: IsaOption = None,
    placing: PlacingOptions,
    check: Annotated[
        str, typer.Option(help="structure, or full: verify the weights' hash first")
    ] = "structure",
    key: Annotated[
        Path | None, typer.Option(help="run only what this public key (PEM) has signed")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="print one JSON object at the end")
    ] = False,
) -> None:
    """Run a compiled model: continue a prompt, make vectors of texts, or run a graph on arrays."""
    from hearth.runtime.loader import load_any

    limits = read_options(threads, isa, placing=placing)
    wishes = limits.placing.wishes(choose(quiet=as_json))
    began = time.perf_counter()
    model = load_any(file, limits.threads, checked(check), limits.isa, key, **wishes)
    load_s = time.perf_counter() - began
    wanted = RunOptions(text, decoder, form, encoder, graph, as_json, load_s)
    check_options(wanted, model.manifest.kind)
    RUNNERS[model.manifest.kind](model, wanted)


def _decoder(model: Any, options: RunOptions) -> None:
    from hearth.runtime.commands.run_decoder import run_decoder

    run_decoder(model, options)


def _encoder(model: Any, options: RunOptions) -> None:
    from hearth.runtime.commands.run_encoder import run_encoder

    run_encoder(model, options)


def _graph(model: Any, options: RunOptions) -> None:
    from hearth.runtime.commands.run_graph import run_graph

    run_graph(model, options)


RUNNERS: Mapping[ModelKind, Callable[[Any, RunOptions], None]] = {
    ModelKind.DECODER: _decoder,
    ModelKind.ENCODER: _encoder,
    ModelKind.GRAPH: _graph,
}
