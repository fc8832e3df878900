"""Several texts after one prompt: each as it would be alone, and beams as fresh sessions would find them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from hearth.runtime import Model, load
from hearth.runtime.generation.writing import Full
from hearth.runtime.sampling import Beams, BeamSearch, Constraint, completion_seed
from hearth.schemas.errors import HearthError, UsageError

if TYPE_CHECKING:
    from conftest import Archives

PROMPT = [5, 6, 7]


@pytest.fixture(scope="module")
def model(archives: Archives) -> Model:
    return load(archives("tiny", weights="int4"), threads=2)


@pytest.mark.parametrize(
    "how", [{"max_tokens": 9}, {"stop": ("7 ", "1 ")}, {"logprobs": 2, "max_tokens": 3}]
)
@pytest.mark.parametrize("n", [1, 3, 9])
def test_each_of_n_is_what_its_seed_gives_alone(model: Model, n: int, how: dict[str, Any]) -> None:
    how = {"temperature": 40.0, "ignore_eos": True} | how
    found = model.complete(PROMPT, n, pieces="ids", seed=4, **how)
    assert len(found) == n
    for index, one in enumerate(found):
        seed = completion_seed(4, index)
        alone = model.generate(PROMPT, pieces="ids", seed=seed, **how)
        list(alone)
        assert (one.text, list(one.tokens)) == (alone.text, alone.tokens)
        assert (one.finish_reason, list(one.choices)) == (alone.finish_reason, alone.choices)
    assert len({one.tokens for one in found}) > n / 2


@pytest.mark.parametrize("prompt", [PROMPT, PROMPT * 100])
def test_each_of_n_goes_on_beyond_the_context_as_it_would_alone(
    model: Model, prompt: list[int]
) -> None:
    how = {"full": Full.SLIDE, "temperature": 40.0, "ignore_eos": True}
    how["max_tokens"] = model.context + 9
    for index, one in enumerate(model.complete(prompt, 3, pieces="ids", seed=4, **how)):
        seed = completion_seed(4, index)
        alone = model.generate(prompt, pieces="ids", seed=seed, **how)
        assert (one.text, list(one.tokens)) == ("".join(alone), alone.tokens)


class Even:
    """Only even tokens, so many of them."""

    def __init__(self, left: int) -> None:
        self.left = left

    def allowed(self) -> np.ndarray:
        return np.full(4, 0x55555555, np.uint32)

    def accept(self, token: int) -> None:
        self.left -= 1

    @property
    def done(self) -> bool:
        return self.left == 0

    def copy(self) -> Constraint:
        return Even(self.left)


class Nothing(Even):
    """No token may come."""

    def allowed(self) -> np.ndarray:
        return np.zeros(4, np.uint32)


def test_each_has_a_constraint_of_its_own(model: Model) -> None:
    for one in model.complete(PROMPT, 4, pieces="ids", seed=1, constraint=Even(5)):
        assert (len(one.tokens), one.finish_reason) == (5, "stop")
        assert all(token % 2 == 0 for token in one.tokens)


@pytest.mark.parametrize("width", [1, 2, 5])
def test_beams_are_followed_as_fresh_sessions_would(model: Model, width: int) -> None:
    wanted = BeamSearch(width)
    asked = {"repetition_penalty": 9.0, "max_tokens": 12}
    found = model.beam_search(PROMPT, wanted, width, pieces="ids", **asked)
    request = model.request(**asked)
    beams = Beams(wanted, request.sampling, tuple(PROMPT), request.stop_ids, 12)
    texts, rows = [list(PROMPT)], [model.session().prefill(PROMPT)]
    while not beams.done:
        texts = [[*texts[branch.parent], branch.token] for branch in beams.step(rows)]
        rows = [model.session().prefill(text) for text in texts]
    due = beams.hypotheses(width)
    assert [(one.tokens, one.score) for one in found] == [(each.tokens, each.score) for each in due]
    assert [one.finish_reason for one in found] == [
        "stop" if each.tokens[-1] in request.stop_ids else "length" for each in due
    ]


def test_every_beam_keeps_to_the_constraint(model: Model) -> None:
    found = model.beam_search(PROMPT, BeamSearch(3), 3, pieces="ids", constraint=Even(5))
    assert len({one.tokens for one in found}) == 3
    for one in found:
        assert (len(one.tokens), one.finish_reason) == (5, "stop")
        assert all(token % 2 == 0 for token in one.tokens)


def test_one_beam_with_a_constraint_is_greedy(model: Model) -> None:
    (one,) = model.beam_search(PROMPT, BeamSearch(1), pieces="ids", constraint=Even(6))
    alone = model.generate(PROMPT, pieces="ids", temperature=0.0, constraint=Even(6))
    list(alone)
    assert list(one.tokens) == alone.tokens


@pytest.mark.parametrize("width", [1, 4])
def test_a_stop_string_ends_a_beam_and_is_left_out(model: Model, width: int) -> None:
    how: dict[str, Any] = {"ignore_eos": True, "max_tokens": 12, "repetition_penalty": 9.0}
    plain = model.beam_search(PROMPT, BeamSearch(width), width, pieces="ids", **how)
    stop = " ".join(plain[0].text.split()[2:4]) + " "  # spans two tokens
    found = model.beam_search(PROMPT, BeamSearch(width), width, pieces="ids", stop=stop, **how)
    ended = [one for one in found if one.finish_reason == "stop"]
    assert ended and all(stop not in one.text for one in found)
    for one in ended:
        assert "".join(f"{token} " for token in one.tokens) == one.text + stop
    assert ended[0].text == plain[0].text[: plain[0].text.index(stop)] or width > 1


def test_one_beam_is_greedy_and_the_context_is_an_end(model: Model) -> None:
    (one,) = model.beam_search([3] * 120, BeamSearch(1), pieces="ids", ignore_eos=True)
    alone = model.generate([3] * 120, pieces="ids", temperature=0.0, ignore_eos=True)
    list(alone)
    assert (one.text, list(one.tokens)) == (alone.text, alone.tokens)
    assert len(one.tokens) == model.context - 120 + 1


def test_what_makes_no_sense_is_refused(model: Model) -> None:
    for call, code in [
        (lambda: model.complete(PROMPT, 0, pieces="ids"), "arguments.n"),
        (lambda: model.beam_search(PROMPT, BeamSearch(2), 3, pieces="ids"), "arguments.beams"),
        (lambda: model.beam_search(PROMPT, pieces="ids", constraint=Nothing(1)), "input.no_token"),
        (lambda: model.beam_search([1] * 129, pieces="ids"), "input.context_full"),
        (lambda: model.complete([1] * 129, pieces="ids"), "input.context_full"),
    ]:
        with pytest.raises(HearthError) as refused:
            call()
        assert refused.value.code == code
    with pytest.raises(UsageError):
        BeamSearch(0)
