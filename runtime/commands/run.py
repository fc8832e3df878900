"""`hearth run`: one command for archives of every kind; what is done is in run_<kind>.py."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from hearth.runtime.commands.arguments import (
    AffinityOption,
    DecodeAffinityOption,
    HugePagesOption,
    IsaOption,
    LockOption,
    PrefaultOption,
    PrefillAffinityOption,
    StopOption,
    TemperatureOption,
    ThreadsOption,
    TopKOption,
    TopPOption,
    checked,
)
from hearth.runtime.commands.run_options import (
    DecoderOptions,
    EncoderOptions,
    FormOptions,
    GraphOptions,
    RunOptions,
    TextOptions,
    check_options,
)
from hearth.runtime.options import Placing, read_options
from hearth.runtime.progress import choose
from hearth.schemas.manifest import ModelKind


def run_command(
    file: Annotated[Path, typer.Argument(help="the .har file")],
    prompt: Annotated[
        str | None,
        typer.Argument(
            help="the text to continue, or to make a vector of; - or nothing: standard input"
            " (of an encoder each line)"
        ),
    ] = None,
    chat: Annotated[
        bool, typer.Option("--chat", help="the prompt is a message, put into the chat template")
    ] = False,
    system: Annotated[str | None, typer.Option(help="a system message; implies --chat")] = None,
    max_tokens: Annotated[
        int | None, typer.Option(help="end after this many tokens; else where the context is full")
    ] = None,
    temperature: TemperatureOption = None,
    top_k: TopKOption = None,
    top_p: TopPOption = None,
    min_p: Annotated[
        float | None, typer.Option(help="choose among those of this share of the best probability")
    ] = None,
    typical_p: Annotated[
        float | None, typer.Option(help="choose among the most typical that make up this share")
    ] = None,
    repetition_penalty: Annotated[
        float | None, typer.Option(help="divide the logits of tokens that were there; 1: none")
    ] = None,
    presence_penalty: Annotated[
        float | None, typer.Option(help="subtract from the logits of tokens of the answer")
    ] = None,
    frequency_penalty: Annotated[
        float | None, typer.Option(help="the same for each time that they are there")
    ] = None,
    penalty_window: Annotated[
        int | None, typer.Option(help="penalties look at this many tokens; 0: all")
    ] = None,
    logit_bias: Annotated[
        list[str] | None,
        typer.Option(help="TOKEN=BIAS, added to a token's logit; may be given several times"),
    ] = None,
    logprobs: Annotated[
        int | None, typer.Option(help="with --json: log probabilities, and of the N best tokens")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="the same seed gives the same text")] = None,
    stop: StopOption = None,
    ignore_eos: Annotated[
        bool, typer.Option("--ignore-eos", help="go on at the model's own end")
    ] = False,
    json_object: Annotated[
        bool, typer.Option("--json-object", help="the answer is a JSON object")
    ] = False,
    json_schema: Annotated[
        Path | None, typer.Option(help="the answer is JSON that fits this file's schema")
    ] = None,
    regex: Annotated[
        str | None, typer.Option(help="the answer fits this regular expression")
    ] = None,
    grammar: Annotated[
        Path | None, typer.Option(help="the answer fits this file's grammar (Lark, GBNF)")
    ] = None,
    draft: Annotated[
        str | None,
        typer.Option(
            help="guess tokens and verify several in one run, which changes no text: lookup, or the"
            " file of a smaller model with the same tokenizer"
        ),
    ] = None,
    adapter: Annotated[
        str | None, typer.Option(help="an adapter of the archive: NAME or NAME:SCALE")
    ] = None,
    pair: Annotated[
        str | None, typer.Option(help="encoder: the second text, beside each of the first")
    ] = None,
    hidden: Annotated[
        bool, typer.Option("--hidden", help="encoder: a vector for each token")
    ] = False,
    inputs: Annotated[
        list[str] | None,
        typer.Option("--input", help="graph: NAME=FILE.npy; once for each input"),
    ] = None,
    output_dir: Annotated[
        Path | None, typer.Option(help="graph: write each output here as .npy")
    ] = None,
    threads: ThreadsOption = None,
    isa: IsaOption = None,
    affinity: AffinityOption = None,
    prefill_affinity: PrefillAffinityOption = None,
    decode_affinity: DecodeAffinityOption = None,
    prefault: PrefaultOption = False,
    huge_pages: HugePagesOption = False,
    lock: LockOption = False,
    check: Annotated[
        str, typer.Option(help="structure, or full: verify the weights' hash first")
    ] = "structure",
    key: Annotated[
        Path | None, typer.Option(help="run only what this public key (PEM) has signed")
    ] = None,
    stats: Annotated[
        bool, typer.Option("--stats", help="say times and rates on standard error")
    ] = False,
    ids: Annotated[
        bool, typer.Option("--ids", help="the prompt is token ids, and ids are printed")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="print one JSON object at the end")
    ] = False,
) -> None:
    """Run a compiled model: continue a prompt, make vectors of texts, or run a graph on arrays."""
    from hearth.runtime.loader import load_any

    placing = Placing(affinity, prefill_affinity, decode_affinity, prefault, huge_pages, lock)
    limits = read_options(threads, isa, placing=placing)
    began = time.perf_counter()
    model = load_any(
        file,
        limits.threads,
        checked(check),
        limits.isa,
        key,
        **limits.placing.wishes(choose(quiet=as_json)),
    )
    wanted = RunOptions(
        TextOptions(prompt, ids, stats),
        DecoderOptions(
            chat=chat,
            system=system,
            max_tokens=max_tokens,
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            min_p=min_p,
            typical_p=typical_p,
            repetition_penalty=repetition_penalty,
            presence_penalty=presence_penalty,
            frequency_penalty=frequency_penalty,
            penalty_window=penalty_window,
            logit_bias=tuple(logit_bias or ()),
            logprobs=logprobs,
            seed=seed,
            stop=tuple(stop or ()),
            ignore_eos=ignore_eos,
            draft=draft,
            adapter=adapter,
        ),
        FormOptions(json_object, json_schema, regex, grammar),
        EncoderOptions(pair, hidden),
        GraphOptions(tuple(inputs or ()), output_dir),
        as_json,
        time.perf_counter() - began,
    )
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
