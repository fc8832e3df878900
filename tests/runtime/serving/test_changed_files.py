"""Files that change while they are served: the next request sees it; who uses the former archive goes on with it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support.lora import Peft, write_peft
from support.served import Clock, FakeScheduler, service

from hearth.compiler.lora.add import add_adapter
from hearth.runtime.adapters import AdapterUse
from hearth.runtime.archive import open_archive
from hearth.runtime.lora.stored import remove_adapter
from hearth.runtime.model import Model
from hearth.runtime.serving.held import Held
from hearth.runtime.serving.jobs import Event, Job, Piece
from hearth.runtime.serving.scheduling import scheduler_of
from hearth.runtime.serving.service import Service
from hearth.runtime.serving.settings import Settings
from hearth.schemas.errors import UsageError

if TYPE_CHECKING:
    from conftest import Archives

PROMPT = tuple(range(4, 30))


@pytest.fixture
def file(archives: Archives, tmp_path: Path) -> Path:
    return Path(shutil.copy(archives("tiny", weights="int4"), tmp_path / "a.har"))


@pytest.fixture(scope="module")
def peft(archives: Archives, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder, source = tmp_path_factory.mktemp("peft"), archives.checkpoint("tiny")
    return [write_peft(folder / str(seed), source, Peft(seed=seed, spread=2.0)) for seed in (0, 1)]


def test_an_adapter_that_is_added_and_removed_is_seen(file: Path, peft: list[Path]) -> None:
    found = service({"a": file})
    with found.using("a") as held:
        before = held.model
    add_adapter(open_archive(file), "poet", peft[0])
    assert [each.names for each in found.list()] == [("a", "a:poet")]
    assert found.find("a:poet")[1] == AdapterUse("poet")
    with found.using("a:poet") as held:
        assert list(held.model.adapters) == ["poet"] and held.model is not before
    remove_adapter(open_archive(file), "poet")
    with pytest.raises(UsageError) as caught:
        found.find("a:poet")
    assert caught.value.code == "serve.model_unknown"
    assert [each.names for each in found.list()] == [("a",)]


def test_a_file_that_stays_is_loaded_once(file: Path) -> None:
    found = service({"a": file})
    models = []
    for _ in range(3):
        with found.using("a") as held:
            models.append(held.model)
    assert models[0] is models[1] is models[2]


def test_the_former_archive_is_unloaded_once_nobody_uses_it(file: Path, peft: list[Path]) -> None:
    found = service({"a": file}, Clock())
    held = found.hold("a")
    former = held.scheduler
    add_adapter(open_archive(file), "poet", peft[0])
    with found.using("a") as other:
        now = other.scheduler
        found.expire()
        assert isinstance(former, FakeScheduler) and former.closed is None
        assert now is not former and held.scheduler is former
    found.release(held)
    found.expire()
    assert former.closed == 0.0
    assert isinstance(now, FakeScheduler) and now.closed is None
    with found.using("a") as other:
        assert other.scheduler is now
    found.close(0)
    assert now.closed == 0.0


@pytest.mark.parametrize("spoil", ["cut", "rubbish", "gone"])
def test_a_file_that_cannot_be_read_any_more_is_served_as_it_was(file: Path, spoil: str) -> None:
    found = service({"a": file})
    with found.using("a") as held:
        before = held.model
    other = file.with_suffix(".new")
    other.write_bytes({"cut": file.read_bytes()[:-100], "rubbish": b"x" * 5000, "gone": b""}[spoil])
    other.replace(file)
    if spoil == "gone":
        file.unlink()
    assert [each.name for each in found.list()] == ["a"]
    with found.using("a") as held:
        assert held.model is before


def answer(held: Held, wait: bool = True) -> list[int]:
    """The tokens of a job with the adapter that is held."""
    events: list[Event] = []
    request = held.model.request(max_tokens=6, temperature=0.0, ignore_eos=True)
    held.scheduler.submit(Job(PROMPT, request, adapter=held.adapter), events.append)
    held.scheduler.close(60.0)
    return [event.choice.token for event in events if isinstance(event, Piece)]


def alone(model: Model, use: AdapterUse) -> list[int]:
    asked = {"max_tokens": 6, "temperature": 0.0, "ignore_eos": True}
    generation = model.generate(PROMPT, session=model.session(adapter=use), pieces="ids", **asked)  # type: ignore[arg-type]
    list(generation)
    return generation.tokens


def test_a_name_whose_adapter_was_replaced_is_the_former_one_for_who_holds_it(
    file: Path, peft: list[Path]
) -> None:
    add_adapter(open_archive(file), "poet", peft[0])
    settings = Settings()
    found = Service({"a": file}, settings, scheduler_of(settings))
    first = found.hold("a:poet")
    due = alone(first.model, AdapterUse("poet"))
    remove_adapter(open_archive(file), "poet")
    add_adapter(open_archive(file), "poet", peft[1])
    second = found.hold("a:poet")
    other = alone(second.model, AdapterUse("poet"))
    assert due != other
    assert answer(first) == due and answer(second) == other
