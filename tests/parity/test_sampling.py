"""Every step of sampling keeps the tokens that transformers' processors keep, with their probabilities."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from hearth.runtime.sampling import Sampling
from hearth.runtime.sampling.history import look_back
from hearth.runtime.sampling.order import Moment, named, process
from hearth.runtime.sampling.weights import weights

torch = pytest.importorskip("torch", reason="needs the parity extra")
theirs = pytest.importorskip("transformers.generation.logits_process")

VOCABULARY = 1000
Maker = Callable[[Any], Any]
MAKERS: dict[str, Maker] = {  # in transformers' order (GenerationMixin._get_logits_processor)
    "logit_bias": lambda pairs: theirs.SequenceBiasLogitsProcessor({(i,): b for i, b in pairs}),
    "repetition_penalty": theirs.RepetitionPenaltyLogitsProcessor,
    "banned": lambda ids: theirs.SuppressTokensLogitsProcessor(list(ids)),
    "temperature": theirs.TemperatureLogitsWarper,
    "top_k": theirs.TopKLogitsWarper,
    "top_p": theirs.TopPLogitsWarper,
    "min_p": theirs.MinPLogitsWarper,
    "typical_p": theirs.TypicalLogitsWarper,
}


def drawn(random: np.random.Generator, field: str) -> Any:
    """A value of the field."""
    match field:
        case "logit_bias":
            ids = random.choice(VOCABULARY, 20, replace=False).tolist()
            # Those biases are kept in float32: values that both have.
            return tuple((i, float(np.float32(random.normal() * 5))) for i in ids)
        case "banned":
            return tuple(random.choice(VOCABULARY, 100, replace=False).tolist())
        case "top_k":
            return int(random.integers(1, 1200))
        case "temperature" | "repetition_penalty":
            return float(np.exp(random.normal() * 0.7))
        case "min_p":
            return float(random.uniform(0, 0.3))
        case _:
            return float(random.uniform(0.02, 0.99))


def logits(random: np.random.Generator) -> np.ndarray:
    return (random.standard_normal(VOCABULARY) * random.uniform(0.5, 6)).astype(np.float32)


def expected(row: np.ndarray, tokens: Sequence[int], fields: dict[str, Any]) -> np.ndarray:
    scores, ids = torch.tensor(row[None], dtype=torch.float64), torch.tensor([tokens])
    for name, make in MAKERS.items():
        if name in fields:
            scores = make(fields[name])(ids, scores)
    return torch.softmax(scores, -1)[0].numpy()


def found(row: np.ndarray, tokens: Sequence[int], fields: dict[str, Any]) -> np.ndarray:
    how = Sampling(**fields)
    now = Moment(named(how), look_back(tokens, len(tokens) // 2, 0))
    weight = weights(process(row.astype(np.float64), how, now))
    return weight / weight.sum()


def compare(random: np.random.Generator, names: Sequence[str]) -> None:
    """Weights are rounded to 2^-43 of the best; what weighs nothing is less probable than that."""
    row, fields = logits(random), {name: drawn(random, name) for name in names}
    tokens = random.integers(0, VOCABULARY, int(random.integers(2, 60))).tolist()
    ours, other = found(row, tokens, fields), expected(row, tokens, fields)
    assert not ((ours > 0) & (other == 0)).any(), fields
    assert other[(ours == 0)].max(initial=0.0) <= 2.0**-43, fields
    assert np.abs(ours - other).max() <= 1e-11, fields


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("seed", range(40))
def test_each_alone(name: str, seed: int) -> None:
    compare(np.random.default_rng([seed, list(MAKERS).index(name)]), [name])


@pytest.mark.parametrize("seed", range(200))
def test_any_together_in_their_order(seed: int) -> None:
    random = np.random.default_rng([seed, 99])
    compare(random, [name for name in MAKERS if random.random() < 0.5])


def test_the_order_is_theirs() -> None:
    """As their own choice of processors for a generation config puts them."""
    from transformers import GenerationConfig, GPT2Config, GPT2LMHeadModel

    model = GPT2LMHeadModel(GPT2Config(vocab_size=20, n_embd=4, n_layer=1, n_head=1, n_positions=8))
    config = GenerationConfig(
        do_sample=True, sequence_bias=[[[1], 1.0]], repetition_penalty=1.2, suppress_tokens=[2],
        temperature=0.5, top_k=5, top_p=0.9, min_p=0.1, typical_p=0.9,
    )  # fmt: skip
    chain = [type(each).__name__ for each in model._get_logits_processor(config, 4, device="cpu")]
    values = {"logit_bias": ((1, 1.0),), "banned": (2,), "top_k": 5}
    assert chain == [type(make(values.get(name, 0.5))).__name__ for name, make in MAKERS.items()]
