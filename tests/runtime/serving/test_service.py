"""Models by name: found, loaded once, shared, unloaded when idle, refused by name."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import Archives
from support.served import Clock, FakeScheduler, service

from hearth.runtime.serving.served import read_files, read_served
from hearth.schemas.errors import ArchiveError, ResourceError, UsageError


@pytest.fixture(scope="module")
def archive(archives: Archives) -> Path:
    return archives("hearthside", weights="int8")


def test_names_of_files() -> None:
    found = read_files(["a/b.har", "x=c.har", "y=a/b.har", "./d=e.har"])
    assert found == {
        "b": Path("a/b.har"), "x": Path("c.har"), "y": Path("a/b.har"), "d=e": Path("d=e.har"),
    }  # fmt: skip


@pytest.mark.parametrize(
    "given", [["a.har", "b/a.har"], ["=a.har"], ["a:b=c.har"], ["x y.har"], [""]]
)
def test_a_bad_name_is_refused(given: list[str]) -> None:
    with pytest.raises(UsageError) as caught:
        read_files(given)
    assert caught.value.code == "arguments.model_name"


def test_what_is_served_is_known_without_loading(archive: Path) -> None:
    found = service({"a": archive})
    assert [served.name for served in found.list()] == ["a"]
    assert found.running() == () and found.list()[0].nbytes == archive.stat().st_size


@pytest.mark.parametrize("name", ["a", "a:latest"])
def test_a_name_is_found(archive: Path, name: str) -> None:
    served, adapter = service({"a": archive}).find(name)
    assert served.path == archive and adapter is None


@pytest.mark.parametrize("name", ["b", "a:x", "", "A", "a:"])
def test_an_unknown_name_is_refused(archive: Path, name: str) -> None:
    with pytest.raises(UsageError) as caught:
        service({"a": archive}).find(name)
    assert caught.value.code == "serve.model_unknown"


def test_an_unreadable_archive_is_refused_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(ArchiveError):
        service({"a": tmp_path / "none.har"})


def test_a_model_is_loaded_once_and_shared(archive: Path) -> None:
    found = service({"a": archive})
    with found.using("a") as one, found.using("a:latest") as two:
        assert one.model is two.model and one.scheduler is two.scheduler
        assert found.running()[0].users == 2
    assert found.running()[0].users == 0


def test_an_idle_model_is_unloaded_after_its_time(archive: Path) -> None:
    clock = Clock()
    found = service({"a": archive}, clock, keep_alive_s=10)
    with found.using("a") as held:
        scheduler = held.scheduler
        clock.now = 100
        found.expire()
        assert found.running()
    clock.now = 109
    found.expire()
    assert found.running()
    clock.now = 110
    found.expire()
    assert not found.running()
    assert isinstance(scheduler, FakeScheduler) and scheduler.closed == 0.0


def test_a_time_beyond_all_calendars_is_never(archive: Path) -> None:
    found = service({"a": archive})
    for seconds in (1e12, 1e300):
        found.release(found.hold("a"), seconds)
        assert found.running()[0].expires is None


def test_keep_alive_zero_unloads_at_once(archive: Path) -> None:
    found = service({"a": archive})
    with found.using("a", keep_alive_s=0):
        pass
    assert not found.running()


def test_unload_waits_for_its_users(archive: Path) -> None:
    found = service({"a": archive})
    with found.using("a", keep_alive_s=0):
        found.unload("a")
        assert found.running()
    assert not found.running()


def test_a_closed_service_loads_nothing(archive: Path) -> None:
    found = service({"a": archive})
    found.close(0)
    with pytest.raises(Exception, match=r"resource\.closing"), found.using("a"):
        pass


def test_who_holds_a_model_when_the_service_closes_is_told_so(archive: Path) -> None:
    """Between being held and being asked there may be a long prompt to encode."""
    found = service({"a": archive})
    with found.using("a") as held:
        found.close(0)
        for ask in (lambda: held.model, lambda: held.scheduler, lambda: held.encoder):
            with pytest.raises(ResourceError, match=r"resource\.closing"):
                ask()


def test_a_decoder_makes_no_vectors(archive: Path) -> None:
    with service({"a": archive}).using("a") as held, pytest.raises(UsageError, match="a decoder"):
        held.embed(["x"])


def test_a_graph_is_not_served() -> None:
    with pytest.raises(UsageError, match="is a graph"):
        read_served("g", Path(__file__).parents[2] / "archives" / "v2-graph.har")
