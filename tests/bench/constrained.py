"""What constraining costs a token at a large vocabulary: mask, its application, acceptance; preparing each wish.

python tests/bench/constrained.py HEARTH_DATA/tokenizers/Qwen2 --vocab 151936 --archive q15.har
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from hearth.runtime import load
from hearth.runtime.grammar import Ebnf, Grammars, GrammarWish, JsonObject, JsonSchema, Regex
from hearth.runtime.sampling import Chooser, Sampling
from hearth.runtime.sampling.tokens import allowed
from hearth.runtime.text.tokenizer import parse_tokenizer

PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 60},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "tags": {"type": "array", "items": {"type": "string"}, "maxItems": 8},
        "role": {"enum": ["reader", "writer", "owner"]},
    },
    "required": ["name", "age", "tags", "role"],
    "additionalProperties": False,
}
ANSWER = json.dumps(
    {
        "name": "Ada Lovelace, Countess",
        "age": 36,
        "tags": ["analytical engine", "poetical science", "notes on the translation of a memoir"],
        "role": "writer",
    }
)
ROUTE = "GET /api/v1/users/12345/orders?limit=50&sort=created_at HTTP/1.1"
GRAMMAR = 'start: expr\nexpr: term (("+" | "-") term)*\nterm: NUM | "(" expr ")"\nNUM: /[0-9]+/'
CASES: list[tuple[str, GrammarWish, str]] = [
    ("JSON object", JsonObject(), ANSWER),
    ("JSON schema", JsonSchema.of(PERSON), ANSWER),
    ("regular expression", Regex(r"(GET|PUT) /[a-z0-9/_]+(\?[a-z0-9_=&]+)? HTTP/1\.[01]"), ROUTE),
    ("grammar", Ebnf(GRAMMAR), "(12+3)-4+(5-(6+77))+123456-(8+9)"),
]


def timed(call: Callable[[], Any]) -> tuple[Any, float]:
    began = time.perf_counter()
    return call(), time.perf_counter() - began


def main() -> None:
    """A line for each form."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tokenizer", type=Path)
    parser.add_argument("--vocab", type=int, default=151936)
    parser.add_argument("--archive", help="whose decode step is measured for comparison")
    wanted = parser.parse_args()
    tokenizer = parse_tokenizer(
        (wanted.tokenizer / "tokenizer.json").read_bytes(),
        (wanted.tokenizer / "tokenizer_config.json").read_bytes(),
    )
    grammars = Grammars(tokenizer, wanted.vocab, [tokenizer.eos_id or 2])
    _, first_s = timed(lambda: grammars.constraint(Regex("a")))
    print(f"the tokens of {wanted.vocab:,}: {first_s * 1e3:.0f} ms, once for a model")
    logits = np.random.default_rng(0).standard_normal(wanted.vocab).astype(np.float32)
    for name, wish, text in CASES:
        _, prepared_s = timed(lambda wish=wish: grammars.constraint(wish))  # type: ignore[misc]
        parts = np.array(
            [
                run
                for _ in range(20)
                for run in one_answer(grammars, wish, tokenizer.encode(text), logits)
            ]
        )
        first = parts[: len(parts) // 20].sum(axis=1)
        total = parts.sum(axis=1)
        mask, apply, accept = (np.median(parts, axis=0) * 1e6).round()
        print(
            f"{name}: prepared in {prepared_s * 1e3:.1f} ms; a token {np.median(total) * 1e6:.0f} us (median),"
            f" {np.mean(total) * 1e6:.0f} (mean), {np.percentile(total, 99) * 1e6:.0f} (99 %);"
            f" {first.mean() * 1e6:.0f} in the first answer; mask {mask:.0f}, apply {apply:.0f}, accept {accept:.0f}"
        )
    for name, sampling in (
        ("greedy", Sampling(temperature=0)),
        ("drawn", Sampling(temperature=0.8)),
    ):
        print(f"choosing, {name}: {choosing(grammars, sampling, logits)}")
    if wanted.archive:
        print(
            f"decode step of {wanted.archive}: {decode_step(wanted.archive) * 1e3:.1f} ms (median)"
        )


def one_answer(
    grammars: Grammars, wish: GrammarWish, ids: list[int], logits: Any
) -> list[tuple[float, float, float]]:
    constraint, found = grammars.constraint(wish), []
    scores = logits.astype(np.float64)
    for token in ids:
        words, mask_s = timed(constraint.allowed)
        _, apply_s = timed(lambda words=words: allowed(scores, words))  # type: ignore[misc]
        _, accept_s = timed(lambda token=token: constraint.accept(token))  # type: ignore[misc]
        found.append((mask_s, apply_s, accept_s))
    return found


def choosing(grammars: Grammars, sampling: Sampling, logits: Any) -> str:
    """A whole choice with and without a constraint that allows much."""
    without, with_one = (
        Chooser(sampling),
        Chooser(sampling, constraint=grammars.constraint(Regex("(?s:.*)"))),
    )
    times = [
        np.median([timed(lambda c=chooser: c.choose(logits))[1] for _ in range(60)]) * 1e6  # type: ignore[misc]
        for chooser in (without, with_one)
    ]
    return f"{times[0]:.0f} us, constrained {times[1]:.0f} us"


def decode_step(archive: str) -> float:
    session = load(archive, threads=2).session()
    session.prefill(list(range(3, 100)))
    return float(np.median([timed(lambda: session.decode(7))[1] for _ in range(40)]))


if __name__ == "__main__":
    main()
