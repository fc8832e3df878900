"""In f32 the greedy tokens are those of an independent forward pass, every one of them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
from support.compiling import graph_before_lowering, wanted
from support.data import checkpoint

from hearth.compiler.ir.constants import Constants
from hearth.compiler.ir.evaluate import evaluate
from hearth.compiler.ir.state import State
from hearth.runtime import load

if TYPE_CHECKING:
    from conftest import Archives

NAMES = ("stories260K", "stories3M", "stories3M-outlier")
TIE = 1e-4  # where the reference's two best logits are closer, either may be the greater
FLOAT = {"weights": "f32", "kv": "f32"}


def cases(name: str) -> list[tuple[list[int], list[int]]]:
    """(prompt ids, prompt and greedy ids) of each prompt."""
    found = json.loads((checkpoint(name) / "reference_greedy.json").read_text())["cases"]
    return [(case["prompt_ids"], case["greedy_ids"]) for case in found]


def margin(name: str, ids: list[int]) -> float:
    """How far apart the reference's two best logits lie after these ids."""
    graph = graph_before_lowering(checkpoint(name), wanted(**FLOAT, context=512))
    logits, _ = evaluate(graph, "prefill", ids, State.empty(), constants=Constants())
    second, first = np.sort(logits[-1])[-2:]
    return float(first - second)


@pytest.mark.parametrize("name", NAMES)
def test_greedy_tokens_equal_the_reference(name: str, archives: Archives) -> None:
    """Teacher-forced: after each token the reference's goes in, so every one is compared."""
    model = load(archives(name, **FLOAT))
    compared, excused = 0, 0
    for prompt, greedy in cases(name):
        assert greedy[: len(prompt)] == prompt
        session = model.session()
        logits = session.prefill(prompt)
        for place in range(len(prompt), len(greedy)):
            if int(logits.argmax()) != greedy[place]:
                assert margin(name, greedy[:place]) < TIE, (prompt, place)
                excused += 1
            compared += 1
            if place + 1 < len(greedy):
                logits = session.decode(greedy[place])
    assert compared
    print(f"{name}: {compared} tokens compared, {excused} ties")
