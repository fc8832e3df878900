"""Log probabilities of prompts: those of the model's own logits, whatever is cached, chunked or served beside them."""

from __future__ import annotations

import random
import shutil
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from support.lora import Peft, write_peft

from hearth.compiler.lora.add import add_adapter
from hearth.runtime import Model, load
from hearth.runtime.adapters import AdapterUse
from hearth.runtime.archive import open_archive
from hearth.runtime.generation.writing import Full
from hearth.runtime.sampling import Choice
from hearth.runtime.serving import stepping
from hearth.runtime.serving.jobs import Event, Failed, Finished, Job, Piece, Read
from hearth.runtime.serving.prompt_scores import PromptScores
from hearth.runtime.serving.scheduler import Scheduler
from hearth.schemas.errors import InputError

if TYPE_CHECKING:
    from conftest import Archives

TOP = 3
PROMPT = tuple(random.Random(3).choices(range(90), k=75))


@pytest.fixture(scope="module")
def model(archives: Archives, tmp_path_factory: pytest.TempPathFactory) -> Model:
    folder = tmp_path_factory.mktemp("scored")
    path = Path(shutil.copy(archives("tiny", weights="int4"), folder / "tiny.har"))
    peft = write_peft(folder / "poet", archives.checkpoint("tiny"), Peft(seed=1, spread=1.0))
    add_adapter(open_archive(path), "poet", peft)
    return load(path, threads=2)


def job(model: Model, prompt: tuple[int, ...] = PROMPT, **how: Any) -> Job:
    request = model.request(ignore_eos=True, max_tokens=5, full=how.pop("full", Full.STOP))
    return Job(prompt, request, **{"prompt_logprobs": TOP, **how})


def served(model: Model, jobs: list[Job], **options: Any) -> list[list[Event]]:
    """The events of each job, all of them served together."""
    found: list[list[Event]] = [[] for _ in jobs]
    over = threading.Semaphore(0)
    scheduler = Scheduler(model, rows=4, **options)

    def sink(number: int) -> Any:
        def hear(event: Event) -> None:
            found[number].append(event)
            if isinstance(event, Finished | Failed):
                over.release()

        return hear

    for number, each in enumerate(jobs):
        scheduler.submit(each, sink(number))
    for _ in jobs:
        assert over.acquire(timeout=60)
    scheduler.close()
    return found


def scores(events: list[Event]) -> list[Choice]:
    return [choice for event in events if isinstance(event, Read) for choice in event.tokens]


def due(model: Model, work: Job) -> list[tuple[float, list[float]]]:
    """Of each token but the first its log probability, and the best ones', by the definition."""
    logits = model.session(adapter=work.adapter).verify(work.prompt).astype(np.float64)
    logs = logits - logits.max(axis=1, keepdims=True)
    logs -= np.log(np.exp(logs).sum(axis=1, keepdims=True))
    return [
        (row[token], sorted(row, reverse=True)[:TOP])
        for row, token in zip(logs, work.prompt[1:], strict=False)
    ]


def check(model: Model, work: Job, found: list[Choice]) -> None:
    assert [choice.token for choice in found] == list(work.prompt)
    assert found[0] == Choice(work.prompt[0])
    for choice, (own, best) in zip(found[1:], due(model, work), strict=True):
        assert choice.logprob == pytest.approx(own, abs=1e-9)
        assert [value for _, value in choice.top] == pytest.approx(best, abs=1e-9)


@pytest.mark.parametrize("prompt", [PROMPT, PROMPT[:1], PROMPT[:2]])
@pytest.mark.parametrize("adapter", [None, AdapterUse("poet"), AdapterUse("poet", 0.5)])
def test_they_are_those_of_the_models_own_logits(
    model: Model, prompt: tuple[int, ...], adapter: AdapterUse | None
) -> None:
    work = job(model, prompt, adapter=adapter)
    (events,) = served(model, [work])
    check(model, work, scores(events))


def test_what_is_cached_of_a_prompt_changes_nothing(model: Model) -> None:
    plain = job(model, prompt_logprobs=None)
    first, second, third = served(model, [plain, job(model), job(model)])
    assert scores(second) == scores(third) and len(scores(second)) == len(PROMPT)
    check(model, job(model), scores(second))
    assert [each for each in first if isinstance(each, Piece)] == [
        each for each in third if isinstance(each, Piece)
    ]
    usage = third[-1]
    assert isinstance(usage, Finished) and usage.usage.cached_tokens == 0


@pytest.mark.parametrize("draft", [None, "lookup"])
def test_beside_other_rows_each_has_its_own(model: Model, draft: Any) -> None:
    rng = random.Random(5)
    jobs = [
        job(
            model,
            tuple(rng.choices(range(model.vocab), k=rng.randint(1, 90))),
            adapter=rng.choice((None, AdapterUse("poet"))),
            prompt_logprobs=rng.choice((None, TOP)),
        )
        for _ in range(16)
    ]
    for work, events in zip(jobs, served(model, jobs, draft=draft), strict=True):
        if work.prompt_logprobs is not None:
            check(model, work, scores(events))
        text = [event.choice.token for event in events if isinstance(event, Piece)]
        session = model.session(adapter=work.adapter)
        alone = model.generate(
            work.prompt, session=session, pieces="ids", ignore_eos=True, max_tokens=5
        )
        list(alone)
        assert text == alone.tokens


def test_a_prompt_may_be_read_and_nothing_written(model: Model) -> None:
    scored, plain = served(
        model, [job(model, write=False), job(model, write=False, prompt_logprobs=None)]
    )
    check(model, job(model), scores(scored))
    assert not scores(plain)
    for events in (scored, plain):
        end = events[-1]
        assert isinstance(end, Finished) and end.reason == "length"
        assert end.usage.generated_tokens == 0 and end.usage.prompt_tokens == len(PROMPT)
        assert not any(isinstance(event, Piece) for event in events)


def test_no_step_holds_more_logits_than_a_run_gives(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows: list[int] = []
    step = stepping.step

    def counted(turns: Any) -> Any:
        rows.append(sum(turn.rows for turn in turns))
        return step(turns)

    monkeypatch.setattr(stepping, "step", counted)
    served(model, [job(model)])
    assert max(rows) <= model.logit_rows and sum(rows) >= len(PROMPT)


def test_a_text_that_slides_is_scored_once(model: Model) -> None:
    work = job(model, PROMPT, full=Full.SLIDE)
    request = model.request(ignore_eos=True, max_tokens=model.context, full=Full.SLIDE)
    (events,) = served(model, [Job(work.prompt, request, prompt_logprobs=TOP)])
    assert len(scores(events)) == len(PROMPT)
    assert sum(isinstance(event, Piece) for event in events) == model.context


def test_a_prompt_longer_than_the_context_cannot_be_scored(model: Model) -> None:
    scheduler = Scheduler(model)
    with pytest.raises(InputError) as refused:
        scheduler.submit(job(model, (1,) * (model.context + 1), full=Full.SLIDE), print)
    assert refused.value.code == "input.context_full"
    scheduler.close()


def test_a_sink_that_fails_ends_the_reading(model: Model) -> None:
    scheduler = Scheduler(model)
    heard: list[Event] = []

    def gone(event: Event) -> None:
        heard.append(event)
        raise ConnectionError

    scheduler.submit(job(model), gone)
    scheduler.close(60.0)
    assert len(heard) == 1 and scheduler.stats().active == 0


def test_logits_that_are_no_numbers_are_refused() -> None:
    logits = np.full((2, 8), np.nan, np.float32)
    with pytest.raises(InputError) as refused:
        PromptScores((1, 2, 3), 1).push(logits)
    assert refused.value.code == "input.logits"
