"""Archives for tests: checkpoints of HEARTH_DATA, the demo model and a small random one, compiled once per run."""

from __future__ import annotations

import gc
import signal
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from support.data import checkpoint as real_checkpoint
from support.desk import Desk, copy_desk, make_desk

MODELS = Path(__file__).parent.parent / "models"


def pytest_configure() -> None:
    """Ctrl-C works in programs that tests start, also where a shell started pytest in the background without it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Of tests that share an id pytest-xdist would run one and say nothing of the others."""
    shared = [each for each, tests in Counter(item.nodeid for item in items).items() if tests > 1]
    if shared:
        raise pytest.UsageError(f"several tests of one id: {', '.join(shared)}")


def pytest_collection_finish() -> None:
    """A compile collects what it has left behind, several times: not what hundreds of test modules hold for good."""
    gc.freeze()


@dataclass
class Archives:
    """`archives("stories3M", weights="int4")` is the path of a compiled archive; skips without the data."""

    folder: Path
    made: dict[str, Path] = field(default_factory=dict)

    def checkpoint(self, name: str) -> Path:
        """The source: "tiny" is random (and has no tokenizer), "hearthside" the demo's, the others real."""
        if name == "tiny":
            from support.checkpoint import write_checkpoint

            return write_checkpoint(self.folder / "tiny")
        if name == "hearthside":
            return MODELS / name
        return real_checkpoint(name)

    def __call__(self, name: str, **recipe: object) -> Path:
        """Recipe values by name; the target is one that every x86 CPU of the last ten years has."""
        key = f"{name}-{'-'.join(f'{field}={value}' for field, value in sorted(recipe.items()))}"
        if key not in self.made:
            self.made[key] = self._compile(name, key, recipe)
        return self.made[key]

    def _compile(self, name: str, key: str, recipe: dict[str, object]) -> Path:
        from hearth.compiler.job import options
        from hearth.compiler.pipeline import compile_model
        from hearth.schemas.recipe import make_recipe

        wanted = {"source": name, "output": "-", "target": "x86-64-v3", **recipe}
        output = self.folder / f"{key}.har"
        compile_model(self.checkpoint(name), output, options(make_recipe(wanted), frozenset()))
        return output


@pytest.fixture(scope="session")
def archives(tmp_path_factory: pytest.TempPathFactory) -> Archives:
    """The factory, with what it made so far."""
    return Archives(tmp_path_factory.mktemp("archives"))


@pytest.fixture(scope="session")
def good_desk(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    """A desk that no test changes."""
    return make_desk(tmp_path_factory.mktemp("good"))


@pytest.fixture
def desk(good_desk: Desk, tmp_path: Path) -> Desk:
    """A desk of the test's own."""
    return copy_desk(good_desk, tmp_path / "desk")
