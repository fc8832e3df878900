"""`hearth run` on a decoder: continue a prompt, or answer a message, printing the text as it comes."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from hearth.runtime.adapters import AdapterUse
from hearth.runtime.commands.arguments import read_prompt
from hearth.runtime.commands.forms import wish_of
from hearth.runtime.commands.run_options import RunOptions
from hearth.runtime.commands.terminal import duration, emit, emit_json, rate
from hearth.runtime.machine.whereabouts import whereabouts, whereabouts_text
from hearth.schemas.errors import UsageError

if TYPE_CHECKING:
    from hearth.runtime.generation.generate import Generation, Stats
    from hearth.runtime.model import Model
    from hearth.runtime.speculative.choice import Draft


def run_decoder(model: Model, options: RunOptions) -> None:
    """Text piece by piece, or one JSON object at the end."""
    given, wanted = options.text, options.decoder
    chat = wanted.chat or wanted.system is not None
    if wanted.logprobs is not None and not options.as_json:
        raise UsageError(
            "arguments.logprobs", "--logprobs without --json", expected="--json, which prints them"
        )
    adapter = None if wanted.adapter is None else AdapterUse.parse(wanted.adapter)
    generation = model.generate(
        read_prompt(given.prompt, chat=chat, system=wanted.system, ids=given.ids),
        format=wish_of(options.form),
        draft=_draft(wanted.draft, model),
        session=model.session(adapter=adapter),
        pieces="ids" if given.ids else "text",
        **wanted.asked(),
    )
    for piece in generation:
        if not options.as_json:
            emit(piece)
    if options.as_json:
        emit_json(as_object(generation, options.load_s) | whereabouts(model))
    else:
        emit("\n")
    if given.stats:
        lines = [
            stats_text(generation.stats, options.load_s),
            *whereabouts_text(whereabouts(model)),
        ]
        print("\n".join(lines), file=sys.stderr)


def _draft(name: str | None, model: Model) -> Draft | None:
    """`lookup`, or the archive of that name, with as many threads."""
    if name is None:
        return None
    if name == "lookup":
        return "lookup"
    from hearth.runtime.loader import load

    return load(name, model.threads, isa=model.isa)


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
        "drafted_tokens": stats.drafted_tokens,
        "accepted_tokens": stats.accepted_tokens,
        "load_s": load_s,
        "ttft_s": stats.ttft_s,
        "encode_s": stats.encode_s,
        "prefill_tokens_per_s": stats.prefill_rate,
        "decode_tokens_per_s": stats.decode_rate,
    } | _logprobs(generation)


def _logprobs(generation: Generation) -> dict[str, Any]:
    """Of each token its log probability and [id, log probability] of the best, where asked for."""
    if generation.request.logprobs is None:
        return {}
    return {"logprobs": [{"logprob": one.logprob, "top": one.top} for one in generation.choices]}


def stats_text(stats: Stats, load_s: float) -> str:
    """One line for people."""
    return (
        f"load {duration(load_s)} | TTFT {duration(stats.ttft_s)} (encode {duration(stats.encode_s)})"
        f" | prefill {stats.prompt_tokens} tokens, {rate(stats.prefill_rate)}"
        f" | decode {stats.generated_tokens} tokens, {rate(stats.decode_rate)}"
        + (
            f" | {stats.accepted_tokens} of {stats.drafted_tokens} guesses right"
            if stats.drafted_tokens
            else ""
        )
    )
