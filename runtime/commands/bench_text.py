"""What `hearth bench` found, for people."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from hearth.runtime.commands.bench_batch import BATCH_COLUMNS
from hearth.runtime.commands.bench_subjects import Found
from hearth.runtime.commands.terminal import duration, rate, size, table

Columns = Mapping[str, tuple[str, Callable[[Any], str]]]


def percent(value: float | None) -> str:
    """A part of a limit, or a dash where none was measured."""
    return "-" if value is None else f"{100 * value:.0f} %"


def spread(form: Callable[[float], str]) -> Callable[[Mapping[str, float]], str]:
    """The median, and in brackets how far it goes."""

    def text(found: Mapping[str, float]) -> str:
        least, most = (form(found[name]).split()[0] for name in ("min", "max"))
        return f"{form(found['median'])} ({least}-{most})"

    return text


def milliseconds(seconds: float) -> str:
    """One unit for all lengths, so that a spread can be read."""
    return f"{seconds * 1e3:.1f} ms"


def per_second(unit: str, factor: float, digits: int = 1) -> Callable[[float], str]:
    """'12.3 GB/s'"""
    return lambda value: f"{value / factor:.{digits}f} {unit}"


def joules(value: float | None) -> str:
    """'0.123 J', or a dash where the machine counts none."""
    return "-" if value is None else f"{value:.3g} J"


RESULTS: Columns = {
    "threads": ("threads", str),
    "prompt_tokens": ("prompt", str),
    "context_tokens": ("context", str),
    "first_ttft_s": ("first TTFT", milliseconds),
    "ttft_s": ("TTFT", spread(milliseconds)),
    "prefill_tokens_per_s": ("prefill", spread(rate)),
    "prefill_of_int8_peak": ("of int8 peak", percent),
    "prefill_of_f32_peak": ("of f32 peak", percent),
    "prefill_joules_per_token": ("a token", joules),
    "decode_tokens_per_s": ("decode", spread(rate)),
    "decode_bytes_per_s": ("reads", per_second("GB/s", 1e9)),
    "decode_of_read": ("of memory", percent),
    "decode_of_mapping": ("of mapping", percent),
    "decode_joules_per_token": ("a token", joules),
    "first_embed_s": ("first vector", milliseconds),
    "embed_s": ("vector", spread(milliseconds)),
    "texts_per_s": ("texts", spread(per_second("texts/s", 1))),
    "tokens_per_s": ("tokens", spread(rate)),
    "embed_of_int8_peak": ("of int8 peak", percent),
    "embed_of_f32_peak": ("of f32 peak", percent),
    "embed_joules_per_token": ("a token", joules),
    "rss_nbytes": ("resident", lambda value: "-" if value is None else size(value)),
    "huge_nbytes": ("in huge pages", lambda value: "-" if value is None else size(value)),
}
LIMITS: Columns = {
    "threads": ("threads", str),
    "read_bytes_per_s": ("memory", spread(per_second("GB/s", 1e9))),
    "mapping_bytes_per_s": ("archive's mapping", spread(per_second("GB/s", 1e9))),
    "int8_operations_per_s": ("int8", spread(per_second("TOPS", 1e12, 3))),
    "f32_operations_per_s": ("f32", spread(per_second("TFLOPS", 1e12, 3))),
}


def as_text(found: Found) -> str:
    """Tables of what was measured; columns of what this machine does not tell are left out."""
    machine = found["machine"]
    lines = [
        f"{found['file']} on {found['isa']}, {machine['processor']}, {machine['cores']} cores,"
        f" medians of {found['runs']} runs (least-most)",
        f"load {spread(milliseconds)(found['load_s'])}, the first {duration(found['first_load_s'])}",
    ]
    if found["cold"]:
        cold = found["cold"]
        lines.append(
            f"cold: load {duration(cold['load_s'])},"
            f" first {cold['prompt_tokens']} tokens {duration(cold['first_s'])}"
        )
    if not machine["energy_counters"]:
        lines.append("energy: this machine shows no counters")
    if found["peak_rss_nbytes"] and found["rss_after_load_nbytes"]:
        after, most = found["rss_after_load_nbytes"], found["peak_rss_nbytes"]
        lines.append(f"resident {size(after)} after load, {size(most)} at most")
    titles = {"limits": LIMITS, "results": RESULTS, "contexts": RESULTS, "batches": BATCHES}
    for name, columns in titles.items():
        if found[name]:
            lines += ["", columned(found[name], columns)]
    return "\n".join(lines) + "\n"


BATCHES: Columns = {"threads": ("threads", str), **BATCH_COLUMNS}


def columned(rows: Sequence[Found], columns: Columns) -> str:
    """A table of what the rows have; a column in which nothing is known is left out."""
    shown = [
        name for name in columns if name in rows[0] and any(row[name] is not None for row in rows)
    ]
    head = [columns[name][0] for name in shown]
    return table([head, *([columns[name][1](row[name]) for name in shown] for row in rows)])
