"""Jobs with different adapters in one scheduler: each gets what it gets alone, and caches are not mixed up."""

from __future__ import annotations

import random
import shutil
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support.lora import Peft, write_peft

from hearth.compiler.lora.add import add_adapter
from hearth.runtime import Model, load
from hearth.runtime.adapters import AdapterUse
from hearth.runtime.archive import open_archive
from hearth.runtime.detokenizer import spell_ids
from hearth.runtime.generate import Generation
from hearth.runtime.serving.scheduler import Event, Job, Piece, Scheduler

if TYPE_CHECKING:
    from conftest import Archives


@pytest.fixture(scope="module")
def model(archives: Archives, tmp_path_factory: pytest.TempPathFactory) -> Model:
    folder = tmp_path_factory.mktemp("adapters")
    path = Path(shutil.copy(archives("tiny", weights="int4"), folder / "tiny.har"))
    for seed, name in enumerate(("poet", "clerk")):
        peft = write_peft(folder / name, archives.checkpoint("tiny"), Peft(seed=seed, spread=1.0))
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
