"""Guesses change no text: greedy or drawn, whoever guesses, however wrong; the session holds no guess."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from support.command_line import hearth
from support.fake_executor import FakeExecutor

from hearth.runtime import Model, load
from hearth.runtime.session import Session
from hearth.runtime.speculative.draft_model import DraftModel
from hearth.runtime.speculative.drafted import Acceptance, Drafted, Pace
from hearth.schemas.errors import UsageError

if TYPE_CHECKING:
    from conftest import Archives


class Oracle:
    """Knows the text but errs at some places; what it is asked for is counted."""

    def __init__(self, text: Sequence[int], wrong: Sequence[int] = (), vocab: int = 97) -> None:
        self.text = [
            (token + 1) % vocab if index in set(wrong) else token
            for index, token in enumerate(text)
        ]

    def guess(self, tokens: Sequence[int], count: int) -> Sequence[int]:
        return self.text[len(tokens) : len(tokens) + count]

    def forget(self) -> None: ...


@pytest.fixture(scope="module")
def model(archives: Archives) -> Model:
    return load(archives("tiny", weights="int4"), threads=2)


@pytest.fixture(scope="module")
def twin(archives: Archives) -> Model:
    """The same weights in other bits: often right as a draft, not always."""
    return load(archives("tiny", weights="int8"), threads=1)


def written(model: Model, prompt: Sequence[int], **how: Any) -> list[int]:
    generation = model.generate(prompt, pieces="ids", ignore_eos=True, **how)
    list(generation)
    return generation.tokens


@pytest.mark.parametrize("seed", range(5))
def test_every_draft_gives_the_same_text(model: Model, twin: Model, seed: int) -> None:
    rng = random.Random(seed)
    prompt = rng.choices(range(9), k=rng.randint(1, 60))
    for how in (
        {},
        {"temperature": 30.0, "seed": seed},
        {"repetition_penalty": 9.0, "top_k": 3, "seed": 1},
    ):
        plain = written(model, prompt, **how)
        text = [*prompt, *plain]
        oracle = Oracle(text, wrong=rng.sample(range(len(text)), 12))
        drafts: tuple[Any, ...] = ("lookup", twin, model, oracle, Oracle(text[:20]))
        for draft in drafts:
            assert written(model, prompt, draft=draft, **how) == plain


def test_logits_are_those_of_the_session_and_it_holds_no_guess(model: Model) -> None:
    prompt = [1, 2, 3]
    plain = model.session()
    logits, text = plain.prefill(prompt), list(prompt)
    for _ in range(40):
        text.append(int(logits.argmax()))
        logits = plain.decode(text[-1])
    session, acceptance = model.session(), Acceptance()
    drafted = Drafted(session, Oracle(text, wrong=(9, 20, 21)), acceptance)
    again = model.session()
    assert np.array_equal(drafted.prefill(prompt), again.prefill(prompt))
    for token in text[3:]:
        assert np.array_equal(drafted.decode(token), again.decode(token))
        assert session.tokens == drafted.tokens == again.tokens
    assert 24 < acceptance.accepted < acceptance.drafted
    assert np.array_equal(session.decode(5), again.decode(5))


def test_a_session_used_by_others_meanwhile_is_read_anew(model: Model) -> None:
    text = [1, 2, 3, 4, 5, 6, 7, 8, 9]
    session, again = model.session(), model.session()
    drafted = Drafted(session, Oracle(text))
    drafted.prefill(text[:2])
    drafted.decode(3)
    session.rewind(1)
    session.prefill([9, 9, 9])
    again.prefill([1, 9, 9, 9])
    assert np.array_equal(drafted.decode(4), again.decode(4))


def test_right_guesses_save_runs_and_a_full_context_is_met(model: Model) -> None:
    fake = FakeExecutor()
    text = list(range(50)) + list(range(14))
    session = Session(fake)
    drafted = Drafted(session, Oracle(text))
    drafted.prefill(text[:4])
    fake.calls.clear()
    for token in text[4:]:
        drafted.decode(token)
    assert session.position == session.context
    assert len(fake.calls) < 60 / 5
    assert drafted.acceptance.share is not None
    assert drafted.acceptance.share == 1.0


def test_ids_that_the_model_lacks_are_not_read(model: Model) -> None:
    drafted = Drafted(model.session(), Oracle([1, 2, 3, 4, 96, 97, 5], vocab=999))
    drafted.prefill([1, 2])
    drafted.decode(3)
    assert drafted.acceptance.drafted == 2


def test_the_pace_follows_success() -> None:
    pace = Pace(8)
    for drafted, accepted, count in ((4, 4, 6), (6, 6, 8), (8, 8, 8), (8, 3, 7), (0, 0, 7)):
        pace.learn(drafted, accepted)
        assert pace.count == count
    for _ in range(9):
        pace.learn(7, 0)
    assert pace.count == 1


def test_a_draft_model_follows_a_text_that_changes(twin: Model) -> None:
    rng, draft = random.Random(0), DraftModel(twin.session())
    text: list[int] = [1]
    for _ in range(30):
        if rng.random() < 0.2:
            text = text[: rng.randint(1, len(text))]
        text += rng.choices(range(97), k=rng.randint(1, 3))
        fresh = DraftModel(twin.session())
        assert list(draft.guess(text, 3)) == list(fresh.guess(text, 3))
    assert draft.guess([1] * twin.context, 4) == ()


def test_a_draft_of_another_tokenizer_is_refused_by_name(model: Model, archives: Archives) -> None:
    other = load(archives("hearthside", weights="int4"))
    for one, draft in ((model, other), (other, model), (model, "guess")):
        with pytest.raises(UsageError) as refused:
            one.generate([1], pieces="ids", draft=draft)  # type: ignore[arg-type]
        assert refused.value.code == "arguments.draft"
    assert "hearthside" in str(refused.value) or "guess" in str(refused.value)


def test_run_drafts(archives: Archives, capsys: pytest.CaptureFixture[str]) -> None:
    path = archives("hearthside", weights="int4")
    said = []
    for options in ((), ("--draft", "lookup"), ("--draft", path)):
        arguments = ("Once upon a time", "--max-tokens", 24, "--stats", *options)
        assert hearth("run", path, *arguments) == 0
        said.append(capsys.readouterr())
    assert said[0].out == said[1].out == said[2].out
    assert "guesses right" not in said[0].err
    assert "guesses right" in said[2].err
