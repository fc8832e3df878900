"""`hearth run`: continue a prompt, or answer a message, printing the text as it comes."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from hearth.runtime.commands.terminal import duration, emit, emit_json, rate
from hearth.runtime.options import read_options
from hearth.schemas.errors import InputError, UsageError

if TYPE_CHECKING:
    from hearth.runtime.generate import Generation, Stats
    from hearth.runtime.model import Prompt


def run_command(
    file: Annotated[Path, typer.Argument(help="the .har file")],
    prompt: Annotated[
        str | None, typer.Argument(help="the text to continue; - or nothing: standard input")
    ] = None,
    chat: Annotated[
        bool, typer.Option("--chat", help="the prompt is a message, put into the chat template")
    ] = False,
    system: Annotated[str | None, typer.Option(help="a system message; implies --chat")] = None,
    max_tokens: Annotated[
        int | None, typer.Option(help="end after this many tokens; else where the context is full")
    ] = None,
    temperature: Annotated[float | None, typer.Option(help="0: always the best token")] = None,
    top_k: Annotated[int | None, typer.Option(help="choose among the k best; 0: all")] = None,
    top_p: Annotated[
        float | None, typer.Option(help="choose among the best that make up this probability")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="the same seed gives the same text")] = None,
    stop: Annotated[
        list[str] | None, typer.Option(help="end before this text; may be given several times")
    ] = None,
    ignore_eos: Annotated[
        bool, typer.Option("--ignore-eos", help="go on at the model's own end")
    ] = False,
    threads: Annotated[
        int | None, typer.Option(help="HEARTH_THREADS, else the cores there are")
    ] = None,
    isa: Annotated[
        str | None, typer.Option(help="highest instruction set to use; HEARTH_ISA, else the best")
    ] = None,
    check: Annotated[
        str, typer.Option(help="structure, or full: verify the weights' hash first")
    ] = "structure",
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
    """Generate text from a compiled model."""
    from hearth.runtime.loader import load

    options = read_options(threads, isa)
    began = time.perf_counter()
    model = load(file, options.threads, checked(check), options.isa)
    load_s = time.perf_counter() - began
    generation = model.generate(
        read_prompt(prompt, chat=chat or system is not None, system=system, ids=ids),
        max_tokens=max_tokens,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        seed=seed,
        stop=stop or (),
        ignore_eos=ignore_eos,
        pieces="ids" if ids else "text",
    )
    for piece in generation:
        if not as_json:
            emit(piece)
    if as_json:
        emit_json(as_object(generation, load_s))
    else:
        emit("\n")
    if stats:
        print(stats_text(generation.stats, load_s), file=sys.stderr)


def checked(check: str) -> Literal["structure", "full"]:
    """How much of the archive to verify."""
    match check:
        case "structure" | "full":
            return check
    raise UsageError("arguments.check", f"--check {check}", expected="structure or full")


def read_prompt(text: str | None, *, chat: bool, system: str | None, ids: bool) -> Prompt:
    """The prompt in the form that `generate` takes."""
    if ids and chat:
        raise UsageError("arguments.prompt", "--ids with --chat", expected="one of the two")
    text = _standard_input() if text is None or text == "-" else text
    if ids:
        return parse_ids(text)
    if not chat:
        return text
    user = {"role": "user", "content": text}
    return [user] if system is None else [{"role": "system", "content": system}, user]


def parse_ids(text: str) -> list[int]:
    """'1, 2 3' -> [1, 2, 3]"""
    try:
        return [int(word) for word in text.replace(",", " ").split()]
    except ValueError as error:
        raise InputError(
            "input.token_type", f"the prompt is not token ids: {error}", expected="numbers"
        ) from None


def _standard_input() -> str:
    """All of stdin but the newline that ends it."""
    if sys.stdin is None or sys.stdin.isatty():
        raise UsageError(
            "arguments.prompt",
            "there is no prompt",
            expected="one as an argument, or on standard input",
        )
    data = sys.stdin.buffer.read()
    try:
        return data.decode().removesuffix("\n")
    except UnicodeDecodeError as error:
        raise InputError(
            "input.text", f"standard input is not UTF-8 at byte {error.start}", expected="UTF-8"
        ) from None


def as_object(generation: Generation, load_s: float) -> dict[str, Any]:
    """What --json prints. `seed` repeats the text where tokens were drawn."""
    stats = generation.stats
    return {
        "text": generation.text,
        "tokens": generation.tokens,
        "finish_reason": generation.finish_reason,
        "seed": generation.request.sampling.seed
        if generation.request.sampling.temperature
        else None,
        "prompt_tokens": stats.prompt_tokens,
        "generated_tokens": stats.generated_tokens,
        "load_s": load_s,
        "ttft_s": stats.ttft_s,
        "encode_s": stats.encode_s,
        "prefill_tokens_per_s": stats.prefill_rate,
        "decode_tokens_per_s": stats.decode_rate,
    }


def stats_text(stats: Stats, load_s: float) -> str:
    """One line for people."""
    return (
        f"load {duration(load_s)} | TTFT {duration(stats.ttft_s)} (encode {duration(stats.encode_s)})"
        f" | prefill {stats.prompt_tokens} tokens, {rate(stats.prefill_rate)}"
        f" | decode {stats.generated_tokens} tokens, {rate(stats.decode_rate)}"
    )
