"""Jobs with different adapters in one scheduler: each gets what it gets alone, and caches are not mixed up."""

from __future__ import annotations

import random
import shutil
import threading
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support.lora import Peft, write_peft

from hearth.compiler.lora.add import add_adapter
from hearth.runtime import Model, load
from hearth.runtime.adapters import AdapterUse
from hearth.runtime.archive import append, open_archive
from hearth.runtime.generation.generate import Generation
from hearth.runtime.serving.jobs import Failed
from hearth.runtime.serving.scheduler import Event, Job, Piece, Scheduler
from hearth.runtime.text.detokenizer import spell_ids
from hearth.schemas import sections
from hearth.schemas.codec import dumps, loads
from hearth.schemas.errors import ArchiveError
from hearth.schemas.lora import Lora
from hearth.schemas.sections import Kind

if TYPE_CHECKING:
    from conftest import Archives


@pytest.fixture(scope="module")
def model(archives: Archives, tmp_path_factory: pytest.TempPathFactory) -> Model:
    folder = tmp_path_factory.mktemp("adapters")
    path = Path(shutil.copy(archives("tiny", weights="int4"), folder / "tiny.har"))
    adapters = {
        "poet": Peft(seed=0, spread=1.0),
        "clerk": Peft(seed=1, spread=1.0),
        "narrow": Peft(rank=9, seed=2, spread=3.0, targets=("q_proj", "down_proj")),
    }
    for name, wanted in adapters.items():
        peft = write_peft(folder / name, archives.checkpoint("tiny"), wanted)
        add_adapter(open_archive(path), name, peft)
    return load(path, threads=2)


def alone(model: Model, job: Job) -> list[int]:
    session = model.session(adapter=job.adapter)
    generation = Generation(session, job.prompt, job.request, spell_ids)
    list(generation)
    return generation.tokens


@pytest.mark.parametrize("draft", [None, "lookup"])
def test_each_adapter_gives_what_it_gives_alone(model: Model, draft: str | None) -> None:
    rng, system = random.Random(1), list(range(40))
    uses = [None, AdapterUse("poet"), AdapterUse("poet", 0.5), AdapterUse("clerk")]
    jobs = [
        Job(
            (*system, *rng.choices(range(model.vocab), k=4)),
            model.request(ignore_eos=True, max_tokens=10, temperature=30.0, seed=7),
            adapter=rng.choice(uses),
        )
        for _ in range(24)
    ]
    due = [alone(model, job) for job in jobs]
    assert len(set(map(tuple, due))) > 12
    scheduler = Scheduler(model, rows=5, draft=draft)  # type: ignore[arg-type]
    ends = [threading.Event() for _ in jobs]
    found: list[list[int]] = [[] for _ in jobs]

    def sink(number: int, event: Event) -> None:
        if isinstance(event, Piece):
            found[number].append(event.choice.token)
        else:
            ends[number].set()

    for number, job in enumerate(jobs):
        scheduler.submit(job, lambda event, number=number: sink(number, event))
    assert all(end.wait(60) for end in ends)
    scheduler.close()
    assert found == due
    assert scheduler.stats().cached_tokens >= 20 * 40


def test_trap_lora_state_that_leaks_between_requests(model: Model) -> None:
    """Rows, their memory and kept prefixes go from one job to the next, some of them cancelled on the way."""
    rng, system = random.Random(2), list(range(30))
    uses = [None, AdapterUse("narrow"), AdapterUse("poet"), AdapterUse("poet", -1.0)]
    request = model.request(ignore_eos=True, max_tokens=8, temperature=30.0, seed=3)
    jobs = [Job((*system, rng.randrange(model.vocab)), request, adapter=use) for use in uses * 6]
    due = [alone(model, job) for job in jobs]
    assert len(set(map(tuple, due[:4]))) == 4
    scheduler = Scheduler(model, rows=3)
    found: list[list[int]] = [[] for _ in jobs]
    ends = [threading.Event() for _ in jobs]
    tickets: dict[int, Any] = {}

    def sink(number: int, event: Event) -> None:
        if not isinstance(event, Piece):
            ends[number].set()
            return
        found[number].append(event.choice.token)
        if number % 5 == 4 and len(found[number]) == 3 and number in tickets:
            tickets[number].cancel()

    for number, job in enumerate(jobs):
        tickets[number] = scheduler.submit(job, lambda event, number=number: sink(number, event))
    assert all(end.wait(60) for end in ends)
    scheduler.close()
    for number, tokens in enumerate(found):
        assert tokens == due[number][: len(tokens)]
        assert len(tokens) == 8 or number % 5 == 4
    assert any(len(tokens) < 8 for tokens in found)


def test_a_damaged_adapter_fails_its_own_job_alone(
    archives: Archives, tmp_path: Path, model: Model
) -> None:
    path = Path(shutil.copy(model.archive.path, tmp_path / "damaged.har"))
    archive, name = open_archive(path), sections.lora_section("clerk")
    lora = loads(Lora, archive.section(name), name)
    first = replace(lora.linears[0], b=1 << 20)
    damaged = replace(lora, linears=(first, *lora.linears[1:]))
    append(path, [(name, Kind.LORA, dumps(damaged))], replace={name})
    other = load(path, threads=2)
    request = model.request(ignore_eos=True, max_tokens=5, temperature=0.0)
    jobs = [
        Job((1, 2, 3), request, adapter=use) for use in (AdapterUse("poet"), AdapterUse("clerk"))
    ]
    scheduler = Scheduler(other, rows=2)
    found: list[list[Event]] = [[], []]
    for job, events in zip(jobs, found, strict=True):
        scheduler.submit(job, events.append)
    scheduler.close(60.0)
    tokens = [event.choice.token for event in found[0] if isinstance(event, Piece)]
    assert tokens == alone(model, jobs[0])
    (failed,) = found[1]
    assert isinstance(failed, Failed) and isinstance(failed.error, ArchiveError)
    assert failed.error.code == "archive.adapter"
