"""Beam search gives the texts and scores of transformers' `generate(num_beams=...)`."""

from __future__ import annotations

import string
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models

from hearth.runtime.generation.beam_text import BeamText
from hearth.runtime.generation.writing import Request
from hearth.runtime.sampling import Beams, BeamSearch, EarlyStopping, Hypothesis, Sampling
from hearth.runtime.sampling.beams import FREE

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
    net: Any,
    prompt: list[int],
    how: BeamSearch,
    stops: list[int],
    limit: int,
    sampling: Sampling,
    begin: Any = FREE,
) -> tuple[Hypothesis, ...]:
    beams = Beams(how, sampling, tuple(prompt), frozenset(stops), limit, begin)
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
    check(found, theirs, prompt)


class NoNeighbour:
    """After a token only those that differ from it by a multiple of 3, or a stop."""

    done = False

    def __init__(self, last: int, stops: list[int]) -> None:
        self.last, self.stops = last, stops

    def may(self) -> list[int]:
        return [one for one in range(PAD) if one % 3 == self.last % 3 or one in self.stops]

    def allowed(self) -> np.ndarray:
        words = np.zeros(2, np.uint32)
        for one in self.may():
            words[one // 32] |= np.uint32(1 << one % 32)
        return words

    def accept(self, token: int) -> None:
        self.last = token

    def copy(self) -> NoNeighbour:
        return NoNeighbour(self.last, self.stops)


LETTERS = string.ascii_letters[: PAD + 1]


def letters() -> Any:
    """A tokenizer of theirs whose tokens are letters."""
    backend = Tokenizer(models.BPE(vocab={one: n for n, one in enumerate(LETTERS)}, merges=[]))
    backend.decoder = decoders.Fuse()
    return transformers.PreTrainedTokenizerFast(tokenizer_object=backend)


def spell(ids: Sequence[int]) -> str:
    return "".join(LETTERS[one] for one in ids)


def check(found: tuple[Hypothesis, ...], theirs: Any, prompt: list[int]) -> None:
    assert [one.score for one in found] == pytest.approx(theirs.sequences_scores.tolist(), abs=1e-4)
    for one, tokens in zip(found, theirs.sequences[:, len(prompt) :].tolist(), strict=True):
        assert tokens[: len(one.tokens)] == list(one.tokens)
        assert set(tokens[len(one.tokens) :]) <= {PAD}


@pytest.mark.parametrize("early", [True, False, "never"])
@pytest.mark.parametrize("seed", range(6))
def test_constraints_are_prefix_functions(seed: int, early: bool | str) -> None:
    net, width, limit, prompt, stops = model(seed), 2 + seed % 4, 12, [3, 1, 4], [7]
    begin = BeamText.begin(Request(), prompt, spell, NoNeighbour(prompt[-1], stops))
    found = ours(
        net, prompt, BeamSearch(width, 1.0, EARLY[early]), stops, limit, Sampling(0.0), begin
    )
    theirs = net.generate(
        torch.tensor([prompt]), num_beams=width, num_return_sequences=width, do_sample=False, max_new_tokens=limit,
        early_stopping=early, eos_token_id=stops, pad_token_id=PAD, output_scores=True, return_dict_in_generate=True,
        prefix_allowed_tokens_fn=lambda batch, ids: NoNeighbour(int(ids[-1]), stops).may(),
    )  # fmt: skip
    check(found, theirs, prompt)


@pytest.mark.parametrize("early", [True, False, "never"])
@pytest.mark.parametrize("seed", range(6))
def test_stop_strings_end_beams(seed: int, early: bool | str) -> None:
    net, width, limit, prompt, stops = model(seed), 2 + seed % 4, 12, [3, 1, 4], [7]
    how = BeamSearch(width, 1.0, EARLY[early])
    free = ours(net, prompt, how, stops, limit, Sampling(0.0))
    strings = (spell(free[0].tokens[:2]), spell(free[-1].tokens[-3:-1]) or "zz")
    begin = BeamText.begin(Request(stop=strings), prompt, spell, None)
    found = ours(net, prompt, how, stops, limit, Sampling(0.0), begin)
    assert found != free
    theirs = net.generate(
        torch.tensor([prompt]), num_beams=width, num_return_sequences=width, do_sample=False, max_new_tokens=limit,
        early_stopping=early, eos_token_id=stops, pad_token_id=PAD, output_scores=True, return_dict_in_generate=True,
        stop_strings=list(strings), tokenizer=letters(),
    )  # fmt: skip
    check(found, theirs, prompt)
