"""Perplexity against size on stories3M and its outlier twin: archives compiled and run for real; tables and a curve.

    HEARTH_DATA=FOLDER PYTHONPATH=tests python tests/bench/quality.py [--part curve methods static] [--only NAME]
        [--windows 200] [--json docs/quality.json] [--svg docs/quality.svg] [--tables]

Each row of `docs/quality.json` is a recipe: bits per weight (bytes of codes, scales, embeddings and norms * 8 /
parameters), perplexity of the first 200 windows of 512 ids of tinystories-eval.txt, its increase over the f32
archive in percent, and the command that makes the archive. Rows that are there already are kept: remove them to
measure anew. About a minute of one core per row. `--tables` prints what is known as Markdown, without measuring.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support.data import DATA

from hearth.compiler.job import options
from hearth.compiler.pipeline import compile_model
from hearth.runtime import load
from hearth.runtime.evaluation import perplexity, windows
from hearth.schemas.recipe import make_recipe

PLAIN, TWIN = "stories3M", "stories3M-outlier"
LENGTH = 512
PARAMETERS = 3_148_224
CALIBRATION_WINDOWS = 77  # all of the text
BEST = "gptaq,importance"
WEIGHTS_ONLY = {"activations": "none", "kv": "f32"}
DYNAMIC = {"activations": "dynamic", "kv": "int8"}
STATIC = {"activations": "static", "kv": "int8-static", "calibration_range": "least-squares"}
TABLE = "*embed*"

# llama.cpp on the same ids: bits per weight, increase in percent.
PEER: Mapping[str, tuple[float, float]] = {
    "Q8_0": (8.53, 0.09), "Q6_K": (8.17, 0.15), "Q5_K_M": (6.65, 2.1), "Q5_0": (6.28, 5.1),
    "Q4_K_M": (6.25, 4.1), "Q4_K_S": (6.10, 4.4), "Q4_1": (5.91, 14.1), "IQ4_NL": (5.53, 13.0),
    "Q4_0": (5.53, 19.5), "IQ4_XS": (5.48, 12.6), "Q3_K_M": (5.63, 15.3), "Q2_K": (5.33, 30.9),
}  # fmt: skip


@dataclass(frozen=True)
class Case:
    """One archive: a name that is its key, the table it belongs to, and the recipe's keys."""

    name: str
    part: str
    recipe: Mapping[str, Any]
    checkpoint: str = PLAIN


def coded(weights: str, table: str, method: str = BEST, **others: Any) -> dict[str, Any]:
    """A recipe by the schemes of linears and of the table, each with its group (`lut4_g64`)."""
    name, _, group = weights.partition("_g")
    found: dict[str, Any] = {"weights": name, "embeddings": table.partition("_g")[0]}
    found |= {"group_size": int(group)} if group else {}
    found["tensors"] = {TABLE: table, **others.pop("tensors", {})}
    return {**found, "method": method, **others}


# name: linears, table, tensors of their own
CURVE: Mapping[str, tuple[str, str, Mapping[str, str]]] = {
    "8.2": ("int8", "int8", {}),
    "7.2": ("int6_g32", "int8", {"*down*": "int8"}),
    "6.1": ("int5_g32", "int8", {}),
    "5.6": ("int5_g32", "int6_g32", {}),
    "5.3": ("int5_g64", "int5_g32", {}),
    "5.0": ("lut4_g32", "int6_g64", {"*down*": "int5_g32"}),
    "4.8": ("lut4_g32", "int6_g64", {}),
    "4.6": ("lut4_g32", "int5_g32", {}),
    "4.35": ("nf4_g32", "nf4_g32", {}),
    "4.2": ("lut4_g64", "lut4_g64", {}),
    "3.5": ("lut3_g64", "lut4_g64", {}),
    "3.35": ("lut3_g32", "lut3_g32", {}),
    "2.6": ("lut2_g32", "lut3_g32", {}),
}
TUNED, PEAKS = "gptaq,importance,tune", "gptaq,importance,peaks"
CURVE_METHODS = {  # at 8 bits no error is worth passing on; the others: BEST
    "8.2": "rtn,importance", "5.3": PEAKS, "3.5": f"{PEAKS},tune", "3.35": TUNED, "2.6": TUNED,
}  # fmt: skip
COMBINED = (
    "rtn", "rtn,importance", "lwc,importance", "gptq,importance", "gptaq,importance",
    "lwc,gptaq,importance", "gptaq,importance,tune", "rtn,quarot", "gptaq,importance,quarot",
    "rtn,smoothquant", "gptaq,importance,smoothquant", "gptaq,importance,smoothquant,quarot",
)  # fmt: skip
PIPES = (
    "rtn", "rtn,smoothquant", "rtn,quarot", "rtn,quarot,rotate-down", "rtn,smoothquant,quarot",
    "gptaq,importance", "gptaq,importance,smoothquant", "gptaq,importance,smoothquant,quarot",
)  # fmt: skip
COARSE = ("gptaq,importance", "gptaq,importance,quarot", *PIPES[-2:])  # with 4-bit weights


def cases() -> list[Case]:
    """All rows of all tables."""
    found = [Case("f32", "base", {"weights": "f32", **WEIGHTS_ONLY})]
    for name, (weights, table, tensors) in CURVE.items():
        recipe = coded(weights, table, CURVE_METHODS.get(name, BEST), tensors=tensors)
        found.append(Case(f"curve {name}", "curve", {**recipe, **WEIGHTS_ONLY}))
    for name in ("8.2", "7.2", "6.1", "5.6", "5.3", "5.0", "4.8", "4.35", "3.5"):
        weights, table, tensors = CURVE[name]
        recipe = coded(weights, table, CURVE_METHODS.get(name, BEST), tensors=tensors)
        found.append(Case(f"curve {name} dynamic", "activations", {**recipe, **DYNAMIC}))
    for checkpoint in (PLAIN, TWIN):
        for method in COMBINED:
            recipe = {**coded("nf4_g32", "int8", method), **WEIGHTS_ONLY}
            found.append(Case(f"{checkpoint} 4 bits {method}", "methods", recipe, checkpoint))
        for weights, methods in (("int8", PIPES), ("nf4_g32", COARSE)):
            for method in methods:
                recipe = {**coded(weights, "int8", method), **STATIC}
                name = f"{checkpoint} {weights} static {method}"
                found.append(Case(name, "static", recipe, checkpoint))
    for spread in ("minmax", "percentile"):
        recipe = {**coded("int8", "int8", PIPES[-2]), **STATIC, "calibration_range": spread}
        found.append(Case(f"{PLAIN} int8 static {PIPES[-2]} {spread}", "static", recipe))
    return found


def measured(case: Case, count: int, folder: Path, f32: float | None) -> dict[str, Any]:
    """Compile and run one case; the increase is over `f32`."""
    output = folder / "quality.har"
    text = str(DATA / "text/tinystories-calibration.txt")
    calibrated = {"calibration": text, "calibration_windows": CALIBRATION_WINDOWS}
    known = dict(case.recipe)
    if known.get("method", "rtn") != "rtn" or known["activations"] == "static":
        known |= calibrated
    source = DATA / "checkpoints" / case.checkpoint
    recipe = make_recipe({"source": str(source), "output": str(output), **known})
    output.unlink(missing_ok=True)
    compile_model(source, output, options(recipe))
    model = load(output)
    nbytes = sum(each.nbytes for each in model.archive.weights_index.tensors if each.parameters)
    story = (DATA / "text/tinystories-eval.txt").read_text()
    ids = model.tokenizer.encode(story, add_special_tokens=False)
    found = perplexity(model, windows(ids, LENGTH, count), lambda _: None)
    base = found.value if f32 is None else f32
    return {
        "checkpoint": case.checkpoint,
        "part": case.part,
        "bits": round(8 * nbytes / PARAMETERS, 4),  # an untied head counts against the source's
        "perplexity": round(found.value, 5),
        "increase": round(100 * (found.value / base - 1), 3),
        "windows": count,
        "method": known.get("method", "rtn"),
        "command": command(case.checkpoint, known),
    }


def command(checkpoint: str, recipe: Mapping[str, Any]) -> str:
    """What makes the same archive, in a folder of the data."""
    words = ["hearth", "compile", f"checkpoints/{checkpoint}", "-o", "out.har"]
    for key, value in recipe.items():
        if key == "tensors":
            words += [
                word for pair in value.items() for word in ("--tensor", f"'{'='.join(pair)}'")
            ]
        elif key == "calibration":
            words += ["--calibration", "text/tinystories-calibration.txt"]
        else:
            words += [f"--{key.replace('_', '-')}", str(value)]
    return " ".join(words)


def drawn(rows: Iterable[Mapping[str, Any]]) -> str:
    """The curve as SVG: bits per weight against the increase in percent, on a logarithmic scale."""
    from math import log10

    width, height, left, bottom, top = 860, 480, 60, 50, 36
    low, high, first, last = -1.6, 2.5, 2.0, 9.0

    def x(bits: float) -> float:
        return left + (width - left - 20) * (bits - first) / (last - first)

    def y(increase: float) -> float:
        place = (log10(max(increase, 0.026)) - low) / (high - low)
        return height - bottom - (height - bottom - top) * place

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="11">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        f'<text x="{left}" y="20" font-size="14">stories3M, weights only: increase of perplexity '
        "(%) against bits per weight</text>",
    ]
    for tick in (0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300):
        parts.append(
            f'<path d="M{left} {y(tick):.1f}H{width - 20}" stroke="#ddd"/>'
            f'<text x="{left - 6}" y="{y(tick) + 4:.1f}" text-anchor="end">{tick:g}</text>'
        )
    for bits in range(2, 10):
        parts.append(
            f'<path d="M{x(bits):.1f} {top}V{height - bottom}" stroke="#eee"/>'
            f'<text x="{x(bits):.1f}" y="{height - bottom + 18}" text-anchor="middle">{bits}</text>'
        )
    points = sorted((row["bits"], row["increase"]) for row in rows)
    line = " ".join(f"{x(b):.1f},{y(i):.1f}" for b, i in points)
    parts.append(f'<polyline points="{line}" fill="none" stroke="#1f77b4" stroke-width="1.5"/>')
    parts += [
        f'<circle cx="{x(b):.1f}" cy="{y(i):.1f}" r="3.5" fill="#1f77b4"/>' for b, i in points
    ]
    for name, (bits, increase) in PEER.items():
        at = f'x="{x(bits) + 6:.1f}" y="{y(increase) - 4:.1f}"'
        parts.append(
            f'<rect x="{x(bits) - 3:.1f}" y="{y(increase) - 3:.1f}" width="6" height="6" fill="#d62728"/>'
            f'<text {at} font-size="9" fill="#d62728">{name}</text>'
        )
    parts.append(
        f'<text x="{width - 200}" y="{top + 16}" fill="#1f77b4">● Hearth</text>'
        f'<text x="{width - 130}" y="{top + 16}" fill="#d62728">■ llama.cpp</text>'
    )
    return "\n".join([*parts, "</svg>"]) + "\n"


def tables(rows: Mapping[str, Mapping[str, Any]]) -> str:
    """What is known, part by part, as Markdown."""
    found: list[str] = []
    for part in dict.fromkeys(row["part"] for row in rows.values()):
        found += [
            f"### {part}",
            "| archive | bits per weight | perplexity | increase |",
            "| --- | --- | --- | --- |",
        ]
        for name, row in rows.items():
            if row["part"] == part:
                found.append(
                    f"| {name} | {row['bits']:.2f} | {row['perplexity']:.4g} | {row['increase']:+.2f} % |"
                )
    return "\n".join(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--part", nargs="*", default=["curve", "activations", "methods", "static"])
    parser.add_argument("--only", default="", help="rows whose name has this in it")
    parser.add_argument("--most", type=int, default=1 << 20, help="rows to measure")
    parser.add_argument("--windows", type=int, default=200)
    parser.add_argument("--json", type=Path, default=Path("docs/quality.json"))
    parser.add_argument("--svg", type=Path, default=Path("docs/quality.svg"))
    parser.add_argument("--tables", action="store_true")
    args = parser.parse_args()
    rows = json.loads(args.json.read_text()) if args.json.exists() else {}
    if args.tables:
        print(tables(rows))
        return
    with tempfile.TemporaryDirectory() as folder:
        for case in cases():
            wished = (case.part == "base" and not rows) or (
                case.part in args.part and args.only in case.name
            )
            if not wished or case.name in rows or args.most == 0:
                continue
            args.most -= 1
            f32 = rows["f32"]["perplexity"] if "f32" in rows else None
            rows[case.name] = measured(case, args.windows, Path(folder), f32)
            row = rows[case.name]
            print(f"{case.name:60} {row['bits']:.3f} bits {row['increase']:+.3f} %", flush=True)
            args.json.write_text(json.dumps(rows, indent=1) + "\n")
    args.svg.write_text(drawn(row for row in rows.values() if row["part"] == "curve"))


if __name__ == "__main__":
    main()
