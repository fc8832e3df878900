"""The recipes of a folder, and the golden beside each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from hearth.schemas.errors import UsageError

SUFFIX = ".golden.json"


@dataclass(frozen=True)
class Case:
    """One recipe by its name; a golden whose recipe is gone has none."""

    name: str
    golden: Path
    recipe: Path | None


def find_cases(folder: Path, patterns: Sequence[str] = ()) -> tuple[Case, ...]:
    """All by name, those that a pattern (`int4*`) matches where there are patterns."""
    if not folder.is_dir():
        raise UsageError(
            "regress.folder",
            "there is no such folder",
            where=str(folder),
            remedy="give the folder that holds the recipes (*.toml)",
        )
    recipes = {path.stem: path for path in folder.glob("*.toml")}
    goldens = {path.name.removesuffix(SUFFIX) for path in folder.glob(f"*{SUFFIX}")}
    names = sorted(
        name
        for name in {*recipes, *goldens}
        if not patterns or any(fnmatchcase(name, pattern) for pattern in patterns)
    )
    if not names:
        known = ", ".join(sorted(recipes)) or "none"
        raise UsageError(
            "regress.nothing",
            f"no recipe {'matches ' + ' or '.join(patterns) if patterns else '(*.toml) is there'}",
            expected=f"one of {known}" if patterns else "at least one",
            where=str(folder),
        )
    return tuple(Case(name, folder / f"{name}{SUFFIX}", recipes.get(name)) for name in names)
