"""Beam search gives the texts and scores of transformers' `generate(num_beams=...)`."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hearth.runtime.sampling import Beams, BeamSearch, EarlyStopping, Hypothesis, Sampling

torch = pytest.importorskip("torch", reason="needs the parity extra")
transformers = pytest.importorskip("transformers")

EARLY = {True: EarlyStopping.AT_ONCE, False: EarlyStopping.HEURISTIC, "never": EarlyStopping.NEVER}
STOPS = {"one": [7], "two": [7, 11]}
PAD = 39


def model(seed: int) -> Any:
    torch.manual_seed(seed)
    config = transformers.GPT2Config(
        vocab_size=40, n_embd=16, n_layer=2, n_head=2, n_positions=64, initializer_range=0.6
    )
    return transformers.GPT2LMHeadModel(config).eval()


def ours(
    net: Any, prompt: list[int], how: BeamSearch, stops: list[int], limit: int, sampling: Sampling
) -> tuple[Hypothesis, ...]:
    beams = Beams(how, sampling, tuple(prompt), frozenset(stops), limit)
    texts: list[list[int]] = [prompt]
    while not beams.done:
        with torch.no_grad():
            logits = net(torch.tensor(texts)).logits[:, -1].numpy()
        branches = beams.step([np.ascontiguousarray(row) for row in logits])
        texts = [[*texts[branch.parent], branch.token] for branch in branches]
    return beams.hypotheses(how.width)


@pytest.mark.parametrize("penalty", [1.0, 0.0, 2.0, -0.5])
@pytest.mark.parametrize("early", [True, False, "never"])
@pytest.mark.parametrize("stops", STOPS)
@pytest.mark.parametrize("seed", range(5))
def test_texts_and_scores(seed: int, stops: str, early: bool | str, penalty: float) -> None:
    net, width, limit, prompt = model(seed), 2 + seed % 4, 12, [3, 1, 4]
    repetition = 1.3 if seed % 2 else 1.0
    found = ours(
        net, prompt, BeamSearch(width, penalty, EARLY[early]), STOPS[stops], limit,
        Sampling(0.0, repetition_penalty=repetition),
    )  # fmt: skip
    theirs = net.generate(
        torch.tensor([prompt]), num_beams=width, num_return_sequences=width, do_sample=False, max_new_tokens=limit,
        length_penalty=penalty, early_stopping=early, eos_token_id=STOPS[stops], pad_token_id=PAD,
        repetition_penalty=repetition, output_scores=True, return_dict_in_generate=True,
    )  # fmt: skip
    assert [one.score for one in found] == pytest.approx(theirs.sequences_scores.tolist(), abs=1e-4)
    for one, tokens in zip(found, theirs.sequences[:, len(prompt) :].tolist(), strict=True):
        assert tokens[: len(one.tokens)] == list(one.tokens)
        assert set(tokens[len(one.tokens) :]) <= {PAD}
